"""A run small enough for tests, and what must be the same of two runs with one seed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from mpqdeploy.core.files import read_json, sha256

STEPS = (
    "profile",
    "anchors",
    "float",
    "search-1",
    "finetune-searched-1",
    "deploy-searched-1",
    "rivals",
    "finetune-uniform-4-4",
    "deploy-uniform-4-4",
    "measure-1",
)

# Bytes and BOPs are counted, so that the policy does not hang on how busy the machine is: the
# latency budget is there, and so wide that its barrier does not move a single bit.
CONFIG = """\
model: {{name: digits_cnn, options: {{width: 16}}}}
data: {{name: digits, limit: {{train: 256, search: 64, val: 64, test: 64}}}}
precisions: ["8/8", "4/4"]
budgets:
  - {{metric: latency, limit: "10000s"}}
  - {{metric: bytes, limit: "65%"}}
  - {{metric: bops, limit: "70%"}}
train: {{epochs: 2, batch_size: 32, lr: 0.05}}
search: {{epochs: 3, refit_epochs: 1, batch_size: 32, val_batches: 1, calibration_batches: 1}}
finetune: {{epochs: 2, batch_size: 32, lr: 0.01}}
refit: {{rounds: 2}}
measure: {{warmup: 1, samples: 5, inner: 1, store: "sqlite:///{store}"}}
baselines: ["4/4"]
run_dir: {run_dir}
"""


def write_config(path: Path, *, store: Path, run_dir: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(CONFIG.format(store=store, run_dir=run_dir), encoding="utf-8")
    return path


def outcome(run_dir: Path) -> dict[str, Any]:
    """Everything of a finished run that the seed decides: no measured time is in it."""
    summary = read_json(run_dir / "summary.json")
    rows = {row["name"]: row for row in summary["rows"]}
    return {
        "policy": read_json(run_dir / "bundle" / "policy.json"),
        "rounds": [turn["policy"] for turn in summary["rounds"]],
        "figures": {
            name: [row[key] for key in ("accuracy", "bytes", "bops", "policy")]
            for name, row in rows.items()
        },
        "model": sha256(run_dir / "bundle" / "model.qonnx.onnx"),
    }


def searched(run_dir: Path) -> dict[str, Any]:
    """What the seed decides of a finished search: the policy, the way there, and the weights."""
    folder = run_dir / "steps" / "search-1"
    result = read_json(folder / "done.json")["result"]
    timed = ("seconds",)
    weights = torch.load(folder / result["weights"], weights_only=True)
    return {
        "policy": result["policy"],
        "history": [{k: v for k, v in e.items() if k not in timed} for e in result["history"]],
        "weights": {name: tensor.tolist() for name, tensor in tensors(weights)},
    }


def tensors(state: Any, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of nested mappings: files of equal tensors differ in the name that zip keeps."""
    if isinstance(state, torch.Tensor):
        yield name, state
    elif isinstance(state, Mapping):
        for key, value in state.items():
            yield from tensors(value, f"{name}.{key}")


def half_written(run_dir: Path) -> list[str]:
    """JSON files that cannot be read, temporary files, and checkpoints of steps that are done."""
    found = [
        path
        for path in run_dir.rglob("*")
        if path.name.startswith(".") or path.suffix == ".tmp" or path.name == "scratch"
    ]
    for path in run_dir.rglob("[!.]*.json"):
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            found.append(path)
    return sorted(str(path.relative_to(run_dir)) for path in found)
