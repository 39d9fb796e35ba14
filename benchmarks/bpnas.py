r"""The claims about BP-NAS, searched and counted.

    python benchmarks/bpnas.py --claim hits
    python benchmarks/bpnas.py --claim ablation --seeds 3
    python benchmarks/bpnas.py --claim front published --network resnet20 \
        --data DIR --checkpoint FILE

hits: budgets spread over the reachable range of measured latency, BOPs and bytes; how often the
argmax network of one BP-NAS search is inside before any repair, and how many searches the penalty
lambda E[C], which the barrier replaces, takes for the same budgets. ablation: barrier, Prob-1 and
reshaping on and off. front: accuracy against measured latency of networks searched under BOPs,
under the latencies that those turned out to have, by an integer program, and of uniform ones.
published: weight and BOPs compression and accuracy beside what papers give for this network.

Every search and every record lies in --work: the same command continues, and adds what is missing.
Each claim ends with a table, and with its records and figure in --out. Needs the extra `bench`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from searching import ablation, fronts, hits, plots, published
from searching.digests import digest
from searching.drafts import Drafts
from searching.setting import Setting, digits, kernel_store, resnet20
from searching.tuning import Tuning

from mpqdeploy.core import ConfigError, UserError, parse_precisions
from mpqdeploy.core.files import write_json
from mpqdeploy.nn.training import Recipe, pick_device
from mpqdeploy.search import BpNasSettings
from mpqdeploy.targets.fingerprint import host_fingerprint
from mpqdeploy.targets.target import load_target
from mpqdeploy.ui import Ui

DOCUMENTS = {
    "hits": "budget-hits",
    "ablation": "bpnas-ablation",
    "front": "latency-front",
    "published": "resnet20-published",
}
"""File names of the claims, without suffix."""
UNIFORM = parse_precisions(("8/8", "4/4", "2/2", "1/1"))
"""What the front and the published table compare with."""

Record = dict[str, Any]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--claim", nargs="+", choices=DOCUMENTS, required=True)
    parser.add_argument("--network", choices=("digits", "resnet20"), default="digits")
    parser.add_argument("--data", type=Path, help="CIFAR-10's folder, of resnet20")
    parser.add_argument("--checkpoint", type=Path, help="float weights, of resnet20")
    parser.add_argument("--budgets", type=int, default=10, help="per metric, of the hits")
    parser.add_argument("--seeds", type=int, default=3, help="of the ablation")
    rooms = parser.add_argument("--rooms", type=float, nargs="+", default=[0.05, 0.1, 0.2, 0.4])
    rooms.help = "of the front: BOPs budgets as shares of the reachable range"
    parser.add_argument("--tune-epochs", type=int, default=1, help="of the front and the table")
    parser.add_argument("--tune-lr", type=float, default=0.01)
    split = parser.add_argument("--tune-split", choices=("fit", "search"), default="fit")
    split.help = "fit: an epoch is all training images; search: a fifth of them"
    parser.add_argument("--mode", choices=("joint", "factorized"), default="joint")
    parser.add_argument("--epochs", type=int, default=10, help="of every search")
    parser.add_argument("--steps", type=int, default=None, help="per epoch, instead of one pass")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--theta-lr", type=float, default=0.05)
    parser.add_argument("--work", type=Path, default=Path("runs/bpnas"))
    parser.add_argument("--out", type=Path, default=None, help="default: with the records")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options, ui = parse(arguments), Ui()
    try:
        _Bench(options, ui).run()
    except UserError as error:
        ui.warn(str(error))
        return 2
    return 0


class _Bench:
    """The claims that the command line asks for, on one network by one search's settings."""

    def __init__(self, options: argparse.Namespace, ui: Ui) -> None:
        self._options = options
        self._ui = ui
        self._setting = _setting(options, ui)
        self._settings = BpNasSettings(
            mode=options.mode,
            epochs=options.epochs,
            steps=options.steps,
            batch_size=options.batch_size,
            theta_lr=options.theta_lr,
        )
        self._device = str(pick_device(self._setting.device))
        # Records of other settings are left where they are.
        self._work = options.work / f"{options.network}-{digest(asdict(self._settings))}"
        self._tuning = Tuning(
            setting=self._setting,
            recipe=Recipe(
                epochs=options.tune_epochs, batch_size=64, lr=options.tune_lr, weight_decay=1e-4
            ),
            split=options.tune_split,
            folder=self._work / "tuned",
            ui=ui,
        )

    def run(self) -> None:
        for claim in self._options.claim:
            records = getattr(self, f"_{claim}")()
            document = {
                "machine": asdict(host_fingerprint()),
                "device": self._device,
                "network": self._options.network,
                "settings": asdict(self._settings),
                "records": records,
            }
            out = (self._options.out or self._work) / f"{DOCUMENTS[claim]}.json"
            write_json(out, document)
            figure = {"hits": plots.hits, "ablation": plots.ablation, "front": plots.front}
            if claim in figure:
                figure[claim](records, out.with_suffix(".svg"))
            self._ui.say(f"wrote {out}")

    def _hits(self) -> list[Record]:
        options, ui = self._options, self._ui
        folder = self._work / "hits"
        records = hits.hits(self._setting, self._settings, folder, options.budgets, ui)
        ui.table("Argmax networks inside their budgets", hits.COLUMNS, hits.summary(records))
        return records

    def _ablation(self) -> list[Record]:
        options, ui = self._options, self._ui
        folder = self._work / "ablation"
        records = ablation.ablation(self._setting, self._settings, folder, options.seeds, ui)
        ui.table("Parts left out", ablation.COLUMNS, ablation.summary(records))
        return records

    def _front(self) -> list[Record]:
        target, store = load_target("host"), kernel_store(self._options.work)
        folder = self._work / "front"
        drafts = Drafts(self._setting, target, store, folder / "drafts")
        front = fronts.Fronts(drafts, self._settings, self._tuning, folder, self._ui)
        records = front.records(self._options.rooms, UNIFORM)
        self._ui.table("Accuracy and measured latency", fronts.COLUMNS, fronts.summary(records))
        for line in fronts.verdicts(records):
            self._ui.say(line)
        return records

    def _published(self) -> list[Record]:
        folder = self._work / "published"
        records = published.published(
            self._setting, self._settings, self._tuning, UNIFORM, folder, self._ui
        )
        rows = published.summary(records, self._device)
        self._ui.table("Beside the papers", published.COLUMNS, rows)
        return records


def _setting(options: argparse.Namespace, ui: Ui) -> Setting:
    if options.network == "digits":
        return digits(options.work, ui)
    if options.data is None or options.checkpoint is None:
        raise ConfigError(
            "resnet20 needs CIFAR-10 and a trained float network.",
            hint="Give --data DIR and --checkpoint FILE.",
        )
    return resnet20(options.work, ui, data=options.data, checkpoint=options.checkpoint)


if __name__ == "__main__":
    raise SystemExit(main())
