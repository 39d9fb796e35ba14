"""What a second thread gains: 8/8 networks compiled for one and for several, timed in turn.

    python benchmarks/threads.py
    python benchmarks/threads.py --network resnet20 --threads 4

Default schedules, batch 1. Ratios are taken turn by turn, with 95% intervals.
Needs the extra `bench`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from networks.zoo import NETWORKS, WIDE, Network, network, qonnx_file
from turns import ratio

from mpqdeploy.core import Protocol
from mpqdeploy.targets.compile import compile_qonnx
from mpqdeploy.targets.fingerprint import host_fingerprint
from mpqdeploy.targets.library import Library
from mpqdeploy.targets.measure import Timer, call_timer, measure_together
from mpqdeploy.targets.target import load_target
from mpqdeploy.ui import Ui

COLUMNS = ("network", "threads", "us", "speed", "95%")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--threads", type=int, default=2, help="beside one")
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--work", type=Path, default=Path("runs/bench"))
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options, ui = parse(arguments), Ui()
    rows = []
    for name in options.network:
        with ui.step(f"{name}: one thread and {options.threads}"):
            rows.append(compare(network(name), options.threads, options.samples, options.work))
    ui.table("As multiples of one thread's speed", COLUMNS, rows)
    return 0


def compare(subject: Network, threads: int, samples: int, work: Path) -> list[str]:
    """A row of `COLUMNS`."""
    folder = work / subject.name
    folder.mkdir(parents=True, exist_ok=True)
    source = qonnx_file(subject, WIDE, folder)
    timers: dict[int, Timer] = {}
    for count in (threads, 1):  # a process has the workers that its first library asks for
        library = folder / f"8-8-threads-{count}.so"
        compile_qonnx(source, load_target("host", count), library)
        opened = Library(library)
        run = opened.bound(opened.random_inputs())
        run()
        timers[count] = call_timer(run, threads=count)
    protocol = Protocol(warmup=3, samples=samples, inner=1, threads=threads)
    taken = measure_together(timers, protocol, host_fingerprint())
    speed = ratio(taken[1].samples_us, taken[threads].samples_us)
    return [
        subject.name,
        str(threads),
        f"{taken[threads].median_us:.1f}",
        f"{speed.median:.2f}",
        f"[{speed.low:.2f}, {speed.high:.2f}]",
    ]


if __name__ == "__main__":
    raise SystemExit(main())
