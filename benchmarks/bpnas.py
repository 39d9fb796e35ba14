"""The claims about BP-NAS, searched and counted.

    python benchmarks/bpnas.py --claim hits
    python benchmarks/bpnas.py --claim ablation --seeds 3
    python benchmarks/bpnas.py --claim front --network resnet20 --data DIR --checkpoint FILE

hits: budgets spread over the reachable range of measured latency, BOPs and bytes; how often the
argmax network of one BP-NAS search is inside before any repair, and how many searches the penalty
lambda E[C], which the barrier replaces, takes for the same budgets. ablation: barrier, Prob-1 and
reshaping on and off. front: accuracy against measured latency of networks searched under BOPs,
under the latencies that those turned out to have, by an integer program, and of uniform ones.

Every search and every record lies in --work: the same command continues, and adds what is missing.
Needs the extra `search`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from searching import ablation, fronts, hits
from searching.drafts import Drafts
from searching.setting import Setting, digits, kernel_store, resnet20

from mpqdeploy.core import ConfigError, UserError
from mpqdeploy.core.files import write_json
from mpqdeploy.nn.training import Recipe, pick_device
from mpqdeploy.search import BpNasSettings
from mpqdeploy.targets.fingerprint import host_fingerprint
from mpqdeploy.targets.target import load_target
from mpqdeploy.ui import Ui

CLAIMS = ("hits", "ablation", "front")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--claim", nargs="+", choices=CLAIMS, default=list(CLAIMS))
    parser.add_argument("--network", choices=("digits", "resnet20"), default="digits")
    parser.add_argument("--data", type=Path, help="CIFAR-10's folder, of resnet20")
    parser.add_argument("--checkpoint", type=Path, help="float weights, of resnet20")
    parser.add_argument("--budgets", type=int, default=10, help="per metric")
    parser.add_argument("--seeds", type=int, default=3, help="of the ablation")
    parser.add_argument(
        "--rooms", type=float, nargs="+", default=[0.05, 0.1, 0.2, 0.4],
        help="of the front: BOPs budgets as shares of the reachable range",
    )  # fmt: skip
    parser.add_argument("--tune-epochs", type=int, default=1, help="of the front's networks")
    parser.add_argument("--tune-lr", type=float, default=0.02)
    parser.add_argument("--mode", choices=("joint", "factorized"), default="joint")
    parser.add_argument("--epochs", type=int, default=10, help="of every search")
    parser.add_argument("--steps", type=int, default=None, help="per epoch, instead of one pass")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--theta-lr", type=float, default=0.05)
    parser.add_argument("--work", type=Path, default=Path("runs/bpnas"))
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options, ui = parse(arguments), Ui()
    try:
        document = run(options, ui)
    except UserError as error:
        ui.warn(str(error))
        return 2
    out = options.work / "claims.json"
    write_json(out, document)
    ui.say(f"wrote {out}")
    return 0


def run(options: argparse.Namespace, ui: Ui) -> dict[str, Any]:
    setting = _setting(options, ui)
    settings = BpNasSettings(
        mode=options.mode,
        epochs=options.epochs,
        steps=options.steps,
        batch_size=options.batch_size,
        theta_lr=options.theta_lr,
    )
    # Records of other settings are left where they are.
    work = options.work / f"{options.network}-{_digest(settings)}"
    document: dict[str, Any] = {
        "machine": asdict(host_fingerprint()),
        "device": str(pick_device(setting.device)),
        "network": options.network,
        "settings": asdict(settings),
    }
    if "hits" in options.claim:
        records = hits.hits(setting, settings, work / "hits", options.budgets, ui)
        ui.table("Argmax networks inside their budgets", hits.COLUMNS, hits.summary(records))
        document["hits"] = records
    if "ablation" in options.claim:
        records = ablation.ablation(setting, settings, work / "ablation", options.seeds, ui)
        ui.table("Parts left out", ablation.COLUMNS, ablation.summary(records))
        document["ablation"] = records
    if "front" in options.claim:
        records = _front(setting, settings, options, work / "front", ui)
        ui.table("Accuracy and measured latency", fronts.COLUMNS, fronts.summary(records))
        for line in fronts.verdicts(records):
            ui.say(line)
        document["front"] = records
    return document


def _front(
    setting: Setting, settings: BpNasSettings, options: argparse.Namespace, folder: Path, ui: Ui
) -> list[fronts.Record]:
    target = load_target("host")
    drafts = Drafts(setting, target, kernel_store(options.work), folder / "drafts")
    recipe = Recipe(epochs=options.tune_epochs, lr=options.tune_lr, weight_decay=1e-4)
    front = fronts.Fronts(drafts, settings, recipe, folder, ui)
    return front.records(options.rooms, target.precisions)


def _setting(options: argparse.Namespace, ui: Ui) -> Setting:
    if options.network == "digits":
        return digits(options.work, ui)
    if options.data is None or options.checkpoint is None:
        raise ConfigError(
            "resnet20 needs CIFAR-10 and a trained float network.",
            hint="Give --data DIR and --checkpoint FILE.",
        )
    return resnet20(options.work, ui, data=options.data, checkpoint=options.checkpoint)


def _digest(settings: BpNasSettings) -> str:
    import hashlib
    import json

    text = json.dumps(asdict(settings), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


if __name__ == "__main__":
    raise SystemExit(main())
