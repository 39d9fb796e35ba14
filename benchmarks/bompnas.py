r"""The claims about BOMP-NAS, searched and counted.

    python benchmarks/bompnas.py --claim qaft --seeds 5 --trials 32
    python benchmarks/bompnas.py --claim samplers --seeds 5 --trials 32
    python benchmarks/bompnas.py --claim table --seeds 5 --trials 40 --functions digits-table-front
    python benchmarks/bompnas.py --claim fronts --cifar10 DIR --cifar100 DIR
    python benchmarks/bompnas.py --claim functions --seeds 5 --trials 30

qaft: fine-tuning inside the loop against quantization alone, on the digits; the fronts of both are
trained in full by one recipe. samplers: hypervolume over the trials of Bayesian optimization,
evolution and random search, live on the digits. table: the same on the networks of the live
studies, looked up in place of training. fronts: CIFAR beside uniform variants of MobileNetV2;
`--size paper` is the real thing, for a GPU. functions: the Gaussian processes of Optuna and BoTorch
on functions whose best is known or cheap to find.

Every race and every network lies in --work: the same command continues, and adds what is missing.
Each claim ends with a table, and with its records and figure in --out. Needs the extras `search`
and `bench`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
from studying import cifar, figures, qaft, recorded, standings
from studying.digits import digits, live
from studying.functions import functions
from studying.races import ENGINES, Race, races

from mpqdeploy.core import ConfigError, UserError
from mpqdeploy.core.files import write_json
from mpqdeploy.targets.fingerprint import host_fingerprint
from mpqdeploy.ui import Ui

DOCUMENTS = {
    "qaft": "bompnas-qaft",
    "samplers": "bompnas-samplers",
    "table": "bompnas-table",
    "fronts": "bompnas-fronts",
    "functions": "bompnas-functions",
}
"""File names of the claims, without suffix."""
LIVE = ("random", "evolution", "bo")
"""Engines where a trial is trained: BoTorch's is of the table and of the functions."""
LIVE_TRIALS = 32
"""Of the live studies whose networks are in the table."""

Record = dict[str, Any]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--claim", nargs="+", choices=DOCUMENTS, required=True)
    names = [function.name for function in functions()] + list(recorded.NAMES)
    chosen = parser.add_argument("--functions", nargs="+", choices=names, default=names)
    chosen.help = "of the claims functions and table"
    parser.add_argument("--engines", nargs="+", choices=tuple(ENGINES), default=list(LIVE))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=LIVE_TRIALS)
    rows = parser.add_argument("--rows", type=int, default=160)
    rows.help = "of the table: random networks beside those of the live studies"
    finalists = parser.add_argument("--finalists", type=int, default=20)
    finalists.help = "of qaft: networks of a front that are trained in full"
    parser.add_argument("--cifar10", type=Path, help="of fronts: the folder of the binary files")
    parser.add_argument("--cifar100", type=Path, help="of fronts: the folder of the binary files")
    parser.add_argument("--size", choices=cifar.SIZES, default="small", help="of fronts")
    parser.add_argument("--work", type=Path, default=Path("runs/bompnas"))
    parser.add_argument("--out", type=Path, default=None, help="default: with the records")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options, ui = parse(arguments), Ui()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        _Bench(options, ui).run()
    except UserError as error:
        ui.warn(str(error))
        return 2
    return 0


class _Bench:
    """The claims that the command line asks for."""

    def __init__(self, options: argparse.Namespace, ui: Ui) -> None:
        self._options = options
        self._ui = ui
        self._seeds = range(options.seeds)

    def run(self) -> None:
        for claim in self._options.claim:
            records = getattr(self, f"_{claim}")()
            out = (self._options.out or self._options.work) / f"{DOCUMENTS[claim]}.json"
            write_json(out, {"machine": asdict(host_fingerprint()), "records": records})
            drawing = {"qaft": figures.qaft, "fronts": figures.fronts}
            drawing.get(claim, figures.samplers)(records, out.with_suffix(".svg"))
            self._ui.say(f"wrote {out}")

    def _qaft(self) -> list[Record]:
        options, ui = self._options, self._ui
        trained = digits(options.work, ui)
        records = qaft.qaft(trained, self._race("live"), self._seeds, options.finalists)
        for key, what in (("tuned", "fine-tuned"), ("quantized", "quantized only")):
            ui.table(f"Trained in full, {what}", qaft.COLUMNS, qaft.summary(records, key))
        return records

    def _samplers(self) -> list[Record]:
        function = live(digits(self._options.work, self._ui))
        engines = [engine for engine in self._options.engines if engine in LIVE]
        return self._shown(races([function], engines, self._seeds, self._race("live")))

    def _table(self) -> list[Record]:
        options = self._options
        trained = digits(options.work, self._ui)
        lived = races([live(trained)], LIVE, range(recorded.SEEDS), self._race("live", LIVE_TRIALS))
        tried = [trial["point"] for record in lived for trial in record["trials"]]
        found = recorded.tables(trained, tried, options.rows)
        chosen = [function for function in found if function.name in options.functions]
        run = self._race(f"table-{options.rows}")
        # Other seeds than the live studies', whose trials are in the table.
        seeds = [recorded.SEEDS + seed for seed in self._seeds]
        return self._shown(races(chosen, options.engines, seeds, run))

    def _functions(self) -> list[Record]:
        options = self._options
        chosen = [function for function in functions() if function.name in options.functions]
        return self._shown(races(chosen, options.engines, self._seeds, self._race("functions")))

    def _fronts(self) -> list[Record]:
        options, ui, records = self._options, self._ui, list[Record]()
        for name in cifar.CLASSES:
            folder = getattr(options, name)
            if folder is not None:
                size = cifar.SIZES[options.size]
                records.append(cifar.fronts(name, folder, size, options.work, 0, ui))
        if not records:
            raise ConfigError("fronts needs data.", hint="Give --cifar10 DIR, --cifar100 DIR.")
        ui.table("Beside uniform variants", cifar.COLUMNS, cifar.summary(records))
        return records

    def _race(self, folder: str, trials: int | None = None) -> Race:
        return Race(trials or self._options.trials, self._options.work / folder, self._ui)

    def _shown(self, records: list[Record]) -> list[Record]:
        self._ui.table("Engines side by side", standings.COLUMNS, standings.standings(records))
        # What each trial was lies in --work.
        return [{k: v for k, v in record.items() if k != "trials"} for record in records]


if __name__ == "__main__":
    raise SystemExit(main())
