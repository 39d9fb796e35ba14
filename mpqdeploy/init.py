"""`mpqdeploy init`: a configuration to start from, generated from the sections themselves."""

from __future__ import annotations

from pathlib import Path

import yaml

from mpqdeploy.config import Config
from mpqdeploy.core import ConfigError
from mpqdeploy.core.files import write_text

_MODELS = {
    "digits": "digits_cnn",
    "cifar10": "resnet20",
    "cifar100": "resnet20",
    "imagefolder": "resnet18",
    "coco": "retinanet",
    "shapes": "retinanet",
}
_HEAD = """\
# What mpqdeploy run is told. Every key may be left out but model.name and data.name; the values
# below are the defaults. Relative paths are relative to the current directory. Replace any key from
# the command line: --set budgets.0.limit=60%
"""
_COMMENTS = {
    "model": "checkpoint: float weights to start from; pins: precisions of named layers",
    "data": "dir: the data set's folder; limit: most images per split, for quick runs",
    "target": "mpqdeploy targets lists them",
    "precisions": "candidates, weight bits / activation bits; null: the target's own",
    "budgets": "latency (250us, 0.25ms), bytes (64KiB), bops (1.2G), or % of uniform 8/8",
    "train": "float pre-training; 0 epochs: none",
    "search": "bp-nas, bomp-nas, penalty, sensitivity, uniform or random; bomp: of bomp-nas",
    "finetune": "quantization-aware training of the searched network and the baselines",
    "refit": "rounds of measuring, correcting the prediction and searching on",
    "log": "tensorboard: event files in the run folder; mlflow: a tracking server's address",
    "measure": "least runs before, latencies taken, runs per latency; store: database URL",
    "baselines": "uniform precisions to compare with",
}


def write_config(path: Path, *, data: str, model: str | None = None) -> None:
    """Write a complete configuration for a data set. Raises `ConfigError`, also if it exists."""
    if path.exists():
        raise ConfigError(f"{path} exists.", hint="Name another file, or remove it first.")
    directory = {} if data in ("digits", "shapes") else {"dir": "data"}
    values = {
        "model": {"name": model or _MODELS.get(data, "resnet20")},
        "data": {"name": data, **directory},
        "run_dir": f"runs/{data}",
    }
    config = Config.read(values, "mpqdeploy init")
    write_text(path, _HEAD + "".join(_lines(config)))


def _lines(config: Config) -> list[str]:
    lines = []
    for key, value in config.model_dump(mode="json").items():
        if key in _COMMENTS:
            lines.append(f"\n# {_COMMENTS[key]}\n")
        # Sections in blocks, lists on one line.
        lines.append(_yaml({key: value}) if isinstance(value, dict) else _entry(key, value))
    return lines


def _entry(key: str, value: object) -> str:
    text = _yaml([value], inline=True).strip().removeprefix("[").removesuffix("]")
    return f"{key}: {text}\n"


def _yaml(value: object, *, inline: bool = False) -> str:
    return yaml.safe_dump(value, sort_keys=False, default_flow_style=inline, width=1000)
