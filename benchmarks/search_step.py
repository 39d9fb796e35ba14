"""What a search's step costs beside a plain step of quantization-aware training.

    python benchmarks/search_step.py
    python benchmarks/search_step.py --network resnet20 --batch-size 128 --device cuda

The same network, batch and optimizer: a fixed policy at 4/4, and both supernets with the same
candidates, weights' and logits' step. Steps are timed in turns, one of each and round again, so
that a machine that slows down slows all; ratios are taken turn by turn, with 95% intervals. Peak
memory is what tensors held above what they held before the step. The breakdown is torch's
profiler's, as shares of CPU time. Aims: factorized at most 2.5, joint with six candidates at most 7
plain steps.
Needs the extra `search`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from searching.stepping import QAT, breakdown, peak_bytes, random_batch, steps_of, timed
from turns import ratio

from mpqdeploy.core import UserError, parse_precisions
from mpqdeploy.core.files import write_json
from mpqdeploy.core.latency import median_interval
from mpqdeploy.nn import ModelSpec
from mpqdeploy.nn.training import pick_device
from mpqdeploy.targets.fingerprint import host_fingerprint
from mpqdeploy.ui import Ui

IMAGES = {"digits_cnn": (1, 8, 8), "resnet20": (3, 32, 32), "resnet18": (3, 224, 224)}
CANDIDATES = ("8/8", "4/8", "4/4", "2/2", "1/2", "1/1")
AIMS = {"factorized": 2.5, "joint": 7.0}
COLUMNS = ("step", "ms", "95%", "x plain", "95%", "aim", "peak MiB", "x plain")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    networks = ["digits_cnn", "resnet20"]
    parser.add_argument("--network", nargs="+", choices=list(IMAGES), default=networks)
    parser.add_argument("--candidates", nargs="+", metavar="W/A", default=list(CANDIDATES))
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, default=Path("runs/bench/search_step.json"))
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options, ui = parse(arguments), Ui()
    found: dict[str, Any] = {}
    try:
        for name in options.network:
            found[name] = compare(name, options, ui)
    except UserError as error:
        ui.warn(str(error))
        return 2
    document = {"machine": asdict(host_fingerprint()), "batch": options.batch_size}
    write_json(options.json, {**document, "candidates": options.candidates, "networks": found})
    ui.say(f"wrote {options.json}")
    return 0


def compare(name: str, options: argparse.Namespace, ui: Ui) -> dict[str, Any]:
    """One network's steps, with the tables on stdout."""
    device = pick_device(options.device)
    spec = ModelSpec(name=name, num_classes=10, image=IMAGES[name])
    steps = steps_of(
        spec, parse_precisions(options.candidates), random_batch(spec, options.batch_size, device)
    )
    seconds = timed(steps, options.turns, device)
    peaks = {step: peak_bytes(run, device) for step, run in steps.items()}
    parts = {step: breakdown(run) for step, run in steps.items()}
    rows = [row(step, seconds, peaks) for step in steps]
    title = f"{name}, batch {options.batch_size}, {len(options.candidates)} candidates, {device}"
    ui.table(title, COLUMNS, rows)
    names = list(dict.fromkeys(part for shares in parts.values() for part in shares))
    ui.table(
        f"{name}: shares of CPU time",
        ("step", *names),
        [
            [step, *(f"{100 * shares.get(part, 0):.0f} %" for part in names)]
            for step, shares in parts.items()
        ],
    )
    return {"device": str(device), "seconds": seconds, "peak_bytes": peaks, "shares": parts}


def row(step: str, seconds: Mapping[str, Sequence[float]], peaks: Mapping[str, int]) -> list[str]:
    """A step's cells: its time and memory, and both over the plain step's."""
    own, plain = seconds[step], seconds[QAT]
    over = ratio(own, plain)
    aim = next((limit for mode, limit in AIMS.items() if step.startswith(mode)), None)
    low, high = median_interval(own)
    return [
        step,
        f"{1e3 * np.median(own):.1f}",
        f"[{1e3 * low:.1f}, {1e3 * high:.1f}]",
        f"{over.median:.2f}",
        f"[{over.low:.2f}, {over.high:.2f}]",
        f"{aim:g}" if aim else "",
        f"{peaks[step] / 2**20:.1f}",
        f"{peaks[step] / peaks[QAT]:.2f}",
    ]


if __name__ == "__main__":
    raise SystemExit(main())
