"""The claims about BOMP-NAS, searched and counted.

    python benchmarks/bompnas.py --claim samplers --seeds 5 --trials 30
    python benchmarks/bompnas.py --claim table --rows 150 --seeds 5 --trials 50

samplers: random, evolution, and Gaussian processes by Optuna and by BoTorch, on functions whose
best is known or cheap to find: the best value inside the budget, or the hypervolume, against the
number of trials, and the seconds of a proposal. table: the same on networks for the digits, which
are trained once and looked up from then on.

Every race and every network lies in --work: the same command continues, and adds what is missing.
Needs the extras `search` and `bench`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
from studying import races, recorded
from studying.functions import Function, functions

from mpqdeploy.core import UserError
from mpqdeploy.core.files import write_json
from mpqdeploy.targets.fingerprint import host_fingerprint
from mpqdeploy.ui import Ui

CLAIMS = ("samplers", "table")
NAMES = (*(function.name for function in functions()), *recorded.NAMES)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--claim", nargs="+", choices=CLAIMS, default=list(CLAIMS))
    parser.add_argument("--functions", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument(
        "--engines", nargs="+", choices=tuple(races.ENGINES), default=list(races.ENGINES)
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--rows", type=int, default=150, help="networks of the table")
    parser.add_argument("--work", type=Path, default=Path("runs/bompnas"))
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options, ui = parse(arguments), Ui()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        document = run(options, ui)
    except UserError as error:
        ui.warn(str(error))
        return 2
    for claim in options.claim:
        out = options.work / f"{claim}.json"
        write_json(out, {"machine": asdict(host_fingerprint()), claim: document[claim]})
        ui.say(f"wrote {out}")
    return 0


def run(options: argparse.Namespace, ui: Ui) -> dict[str, Any]:
    document: dict[str, Any] = {}
    if "samplers" in options.claim:
        chosen = [function for function in functions() if function.name in options.functions]
        document["samplers"] = _races(options, chosen, options.work / "samplers", ui)
    if "table" in options.claim:
        folder = options.work / "digits-table"
        recorded.record(options.rows, folder, ui)
        tables = recorded.tables(folder, options.rows)
        chosen = [function for function in tables if function.name in options.functions]
        races_of = options.work / f"table-{options.rows}"
        document["table"] = _races(options, chosen, races_of, ui)
    return document


def _races(
    options: argparse.Namespace, chosen: Sequence[Function], folder: Path, ui: Ui
) -> list[races.Record]:
    records = races.races(chosen, options.engines, options.seeds, options.trials, folder, ui)
    ui.table("Engines side by side", races.COLUMNS, races.summary(records))
    return records


if __name__ == "__main__":
    raise SystemExit(main())
