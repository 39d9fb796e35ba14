"""Whole networks, batch 1: the compiled library beside other runtimes' int8, against the aims.

    python benchmarks/runtimes.py
    python benchmarks/runtimes.py --network resnet20 --policies 8/8 2/2 --json table.json

Prints a table for every network, then which of the aims (`networks/aims.py`) are met, and writes
all of it to one JSON file. An aim that is missed is no error: the exit code is 0 unless a network
could not be measured.

Needs the extras `search` and `bench`. All programs of a network are timed in one process, in turns
of some 20 ms, one of each and round again; each turn starts with a run that is not counted, which
brings the program's weights back into the caches. Medians over turns have 95% intervals, ratios are
taken turn by turn. A policy "2/4" has 2-bit weights and 4-bit activations everywhere but in the
first and the last layer (MobileNetV2: everywhere but in all that is no 1x1 convolution).

"of limit" is the time that the network's multiply-accumulates would take at the peak rate of
vpdpbusd on registers alone, timed in the same turns, over the row's own time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from networks import verdicts
from networks.aims import AIMS
from networks.comparison import Comparison
from networks.table import COLUMNS, MAKING, STEPS, cells, making_cells, step_cells
from networks.zoo import NETWORKS, network

from mpqdeploy.core import UserError
from mpqdeploy.core.files import write_json
from mpqdeploy.targets.fingerprint import host_fingerprint
from mpqdeploy.targets.records import RecordStore
from mpqdeploy.targets.target import load_target
from mpqdeploy.ui import Ui

FORMAT = 1


def compare(options: argparse.Namespace, name: str, ui: Ui) -> dict[str, Any]:
    """One network's part of the JSON, with its tables on stdout."""
    target = load_target(options.target, options.threads)
    target.require_here()
    chosen = network(name)
    work = options.work / name
    comparison = Comparison(chosen, target, work, ui)
    policies = options.policies or chosen.policies
    store = None if options.no_tune else _store(options)
    data: dict[str, Any] = {}
    if not options.breakdown_only:
        entrants = comparison.peers()
        for policy in policies:
            if store is None or options.untuned:
                entrants.append(comparison.compile(policy, None, verify=not options.no_verify))
            if store is not None:
                entrants.append(comparison.compile(policy, store, verify=not options.no_verify))
        data = comparison.time(entrants, options.seconds)
        show(name, data, ui)
    if options.breakdown or options.breakdown_only:
        data["breakdown"] = [comparison.breakdown(policy, store) for policy in policies]
        for part in data["breakdown"]:
            show_steps(name, part, ui)
    return data


def _store(options: argparse.Namespace) -> RecordStore:
    path = options.store or options.work / "latency.sqlite"
    return RecordStore(f"sqlite:///{path.absolute()}")


def show(name: str, data: Mapping[str, Any], ui: Ui) -> None:
    peak = data["peak_gmacs"]
    bound = f", limit {data['limit_us'] / 1e3:.3f} ms at {peak:.0f} GMAC/s" if peak else ""
    title = f"{name}: {data['macs'] / 1e6:,.0f} MMAC{bound}"
    ui.table(title, COLUMNS, [cells(row) for row in data["rows"]])
    ui.table(f"{name}: made", MAKING, [making_cells(made) for made in data["making"]])


def show_steps(name: str, part: Mapping[str, Any], ui: Ui) -> None:
    title = f"{name} {part['precision']} {part['how']}: kernels, {part['total_us']:,.0f} us in all"
    ui.table(title, STEPS, [step_cells(step, part["peak_gmacs"]) for step in part["steps"]])


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--policies", nargs="+", metavar="W/A", help="instead of the usual ones")
    parser.add_argument("--seconds", type=float, default=3.0, help="of sampling per row")
    parser.add_argument("--target", default="host")
    parser.add_argument(
        "--threads", type=int, default=1, help="of every program; the limit is one core's"
    )
    parser.add_argument(
        "--work", type=Path, default=Path("runs/bench"), help="folder of exported files"
    )
    parser.add_argument("--store", type=Path, help="SQLite file of kernel latencies, in --work")
    parser.add_argument("--no-tune", action="store_true", help="default schedules only")
    parser.add_argument("--untuned", action="store_true", help="default schedules as well")
    parser.add_argument("--no-verify", action="store_true", help="trust the compiled libraries")
    parser.add_argument("--breakdown", action="store_true", help="time every kernel, too")
    parser.add_argument("--breakdown-only", action="store_true", help="and nothing else")
    parser.add_argument("--json", type=Path, metavar="PATH", help="instead of table.json in --work")
    return parser.parse_args(arguments)


def main() -> int:
    options = parse()
    ui = Ui()
    out = options.json or options.work / "table.json"
    found: dict[str, Any] = {}
    failed = False
    for name in options.network:
        try:
            found[name] = compare(options, name, ui)
        except UserError as error:
            ui.warn(f"{name}: {error}")
            failed = True
        write_json(out, _document(found, options.threads))  # hours are not lost with the last one
    judged = verdicts.verdicts(AIMS, found)
    if judged:
        ui.table("Against the aims", verdicts.COLUMNS, [verdict.cells() for verdict in judged])
    ui.say(f"wrote {out}")
    return 2 if failed else 0


def _document(found: Mapping[str, Any], threads: int) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "machine": asdict(host_fingerprint()),
        "threads": threads,
        "networks": dict(found),
        "aims": [verdict.to_json() for verdict in verdicts.verdicts(AIMS, found)],
    }


if __name__ == "__main__":
    sys.exit(main())
