"""Rates of every kernel and schedule, by layer and precision, beside the best 8/8 one.

    python benchmarks/kernels.py [--layers resnet20] [--precisions 8/8 1/1] [--json]

Each function is one layer with its whole epilogue (scale, clip, quantize, store). Functions are
timed in turn, many short samples each, and the least is printed: other load on the machine can only
lengthen a sample. Rates are multiply-accumulates of the unpadded layer.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from mpqdeploy.core import Geometry, Precision, parse_precisions
from mpqdeploy.targets.kernels import kernels_for
from mpqdeploy.targets.kernels.base import Kernel, Schedule
from mpqdeploy.targets.layout import buffer_dtype, buffer_shape
from mpqdeploy.targets.lowering import compile_tir
from mpqdeploy.targets.synthesize import Workload, random_buffer, synthesize
from mpqdeploy.targets.target import Target, load_target

SAMPLE_SECONDS = 200e-6
Sample = Callable[[int], float]  # number of runs -> mean seconds


def conv(size: int, channels: int, out: int, stride: int = 1) -> Geometry:
    return Geometry(
        op="conv",
        in_channels=channels,
        out_channels=out,
        in_size=(size, size),
        kernel=(3, 3),
        stride=(stride, stride),
        padding=(1, 1, 1, 1),
    )


LAYERS = {
    "resnet20": (
        conv(32, 16, 16),
        conv(32, 16, 32, 2),
        conv(16, 32, 32),
        conv(16, 32, 64, 2),
        conv(8, 64, 64),
    ),
    "resnet18": (conv(56, 64, 64), conv(28, 128, 128), conv(14, 256, 256), conv(7, 512, 512)),
}
PRECISIONS = ("8/8", "4/4", "2/2", "1/4", "1/2", "1/1")


@dataclass(kw_only=True)
class Entry:
    """One compiled function and its samples, in microseconds."""

    layer: str
    precision: str
    kernel: str
    schedule: Schedule
    macs: int
    samples_us: list[float] = field(default_factory=list)

    @property
    def least_us(self) -> float:
        return min(self.samples_us)

    @property
    def rate(self) -> float:
        """GMAC/s of the least disturbed sample."""
        return self.macs / self.least_us / 1e3


def entries(
    geometry: Geometry, precisions: Sequence[Precision], target: Target
) -> list[tuple[Entry, Sample]]:
    """Every kernel and schedule that computes this layer, compiled."""
    found = []
    for precision in precisions:
        work = synthesize(geometry, precision)
        for kernel in kernels_for(target.features):
            if not kernel.matches(work.step, work.tensors, target.isa):
                continue
            for schedule in kernel.schedules(work.step, work.tensors, target.isa):
                entry = Entry(
                    layer=describe(geometry),
                    precision=str(precision),
                    kernel=kernel.name,
                    schedule=dict(schedule),
                    macs=geometry.macs,
                )
                found.append((entry, compiled(work, kernel, schedule, target)))
    return found


def compiled(work: Workload, kernel: Kernel, schedule: Schedule, target: Target) -> Sample:
    import tvm

    layouts = work.layouts(kernel)
    emitted = kernel.emit(work.step, work.tensors, layouts, target.isa, schedule)
    function = emitted.func.with_attr("global_symbol", "kernel")
    module = compile_tir(function, target).jit()
    tensors = work.tensors
    arrays = [random_buffer(tensors[b.tensor], b.layout) for b in emitted.reads]
    arrays += emitted.constants
    arrays += [
        np.zeros(buffer_shape(tensors[b.tensor], b.layout), buffer_dtype(b.layout))
        for b in emitted.writes
    ]
    arguments = [tvm.runtime.tensor(np.ascontiguousarray(array)) for array in arrays]

    def sample(number: int) -> float:
        timer = module.time_evaluator("kernel", tvm.cpu(), number=number)
        return float(timer(*arguments).mean)

    return sample


def measure(work: Sequence[tuple[Entry, Sample]], rounds: int) -> None:
    """Add `rounds` samples to every entry, in turn."""
    numbers = [max(1, int(SAMPLE_SECONDS / sample(5))) for _, sample in work]
    for _ in range(rounds):
        for (entry, sample), number in zip(work, numbers, strict=True):
            entry.samples_us.append(sample(number) * 1e6)


def describe(geometry: Geometry) -> str:
    stride = f"/{geometry.stride[0]}" if geometry.stride[0] > 1 else ""
    size = geometry.in_size[0]
    return f"{geometry.in_channels}>{geometry.out_channels} {size}x{size}{stride}"


def table(results: Sequence[Entry], *, every: bool) -> str:
    """Text: the best schedule of every kernel, or all of them."""
    lines = [f"{'layer':<18}{'W/A':<5}{'kernel':<12}{'GMAC/s':>8}{'us':>9}{'x 8/8':>7}  schedule"]
    for layer in dict.fromkeys(entry.layer for entry in results):
        here = [entry for entry in results if entry.layer == layer]
        base = max((e.rate for e in here if e.precision == "8/8"), default=float("nan"))
        best: dict[tuple[str, str], Entry] = {}
        for entry in sorted(here, key=lambda entry: entry.rate):
            best[entry.precision, entry.kernel] = entry
        for entry in here:
            if every or best[entry.precision, entry.kernel] is entry:
                schedule = " ".join(f"{k}={v}" for k, v in entry.schedule.items())
                lines.append(
                    f"{layer:<18}{entry.precision:<5}{entry.kernel:<12}{entry.rate:8.0f}"
                    f"{entry.least_us:9.2f}{entry.rate / base:7.2f}  {schedule}"
                )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--layers", choices=sorted(LAYERS), default="resnet20")
    parser.add_argument("--precisions", nargs="+", default=PRECISIONS)
    parser.add_argument("--target", default="host")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--every", action="store_true", help="print every schedule")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    target = load_target(options.target)
    target.require_here()
    results: list[Entry] = []
    for geometry in LAYERS[options.layers]:
        work = entries(geometry, parse_precisions(options.precisions), target)
        measure(work, options.rounds)
        results += [entry for entry, _ in work]
    if options.json:
        rows = [{**asdict(e), "least_us": e.least_us, "gmacs": e.rate} for e in results]
        print(json.dumps({"target": target.key, "entries": rows}))
    else:
        print(f"target {target.key}")
        print(table(results, every=options.every))


if __name__ == "__main__":
    main()
