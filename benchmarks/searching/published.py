"""Claim 4: ResNet-20 on CIFAR-10 beside the rows that papers give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mpqdeploy.core import Budget, Metric, Policy, Precision
from mpqdeploy.core.files import read_json, write_json
from mpqdeploy.data import Loader
from mpqdeploy.nn import build_float, load_checkpoint, sites
from mpqdeploy.nn.training import evaluate, pick_device
from mpqdeploy.search import BpNas, BpNasSettings
from mpqdeploy.ui import Ui
from searching.setting import Setting, uniform
from searching.tuning import Tuning

COLUMNS = (
    "network", "weights, x smaller", "BOPs, x fewer", "top-1", "below its float", "epochs",
    "device",
)  # fmt: skip
FLOAT_BITS = 32

Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Published:
    """A paper's row; compressions against 32-bit floats where it gives them; top-1 in %."""

    name: str
    top1: float
    weights: float | None = None
    bops: float | None = None


PAPERS = (
    Published(name="float (BP-NAS)", top1=92.37, weights=1.0, bops=1.0),
    Published(name="HAWQ", top1=92.22, weights=13.1),
    Published(name="BP-NAS", top1=92.04, bops=95.6),
    Published(name="LQ-Nets 3/3", top1=91.60),
    Published(name="PACT 3/3", top1=91.10),
    Published(name="LQ-Nets 2/2", top1=90.20),
    Published(name="PACT 2/2", top1=89.70),
    Published(name="DoReFa 2/2", top1=88.20),
    Published(name="AdaBin 1/1", top1=88.20),
    Published(name="ReCU 1/1", top1=87.50),
    Published(name="IR-Net 1/1", top1=86.50),
)
"""[F] but for BP-NAS' BOPs [r]; compressions of weights and of BOPs are the papers' own counts."""

GOALS: Mapping[str, tuple[Metric, float]] = {
    "BP-NAS, the paper's BOPs": ("bops", 95.6),
    "BP-NAS, HAWQ's weight bytes": ("bytes", 13.1),
}
"""Budgets of our searches, as compressions against 32-bit floats."""


def published(
    setting: Setting,
    settings: BpNasSettings,
    tuning: Tuning,
    precisions: Sequence[Precision],
    folder: Path,
    ui: Ui,
) -> list[Record]:
    """Our rows: the float network, uniform ones, and one search for each of `GOALS`."""
    whole = _float_costs(setting)
    found = [_float(setting, folder)]
    policies = {f"uniform {p}": uniform(setting.candidates, p) for p in precisions}
    for name, (metric, times) in GOALS.items():
        ui.note(f"searching: {name}")
        problem = setting.problem(Budget(metric=metric, limit=whole[metric] / times))
        policies[name] = BpNas(settings).search(problem, folder / f"search-{metric}").policy
    for name, policy in policies.items():
        ui.note(f"fine-tuning: {name}")
        accuracy = tuning.accuracy(policy)
        found.append(_record(setting, name, policy, accuracy, tuning.epochs, whole))
    return found


def summary(records: Sequence[Mapping[str, Any]], device: str) -> list[list[str]]:
    """The papers' rows and ours."""
    best = max(paper.top1 for paper in PAPERS)
    papers = [
        [
            paper.name,
            _times(paper.weights),
            _times(paper.bops),
            f"{paper.top1:.2f} %",
            f"{best - paper.top1:.2f}",
            "",
            "",
        ]
        for paper in PAPERS
    ]
    own = 100 * records[0]["top1"]
    ours = [
        [
            f"ours: {r['name']}",
            _times(r["weights"]),
            _times(r["bops"]),
            f"{100 * r['top1']:.2f} %",
            f"{own - 100 * r['top1']:.2f}",
            f"{r['epochs']:g}",
            device,
        ]
        for r in records
    ]
    return papers + ours


def _float(setting: Setting, folder: Path) -> Record:
    file = folder / "float.json"
    if not file.exists():
        net = build_float(setting.spec)
        load_checkpoint(net, setting.checkpoint)
        net = net.to(pick_device(setting.device)).eval()
        test = Loader(setting.dataset, "test", batch_size=250)
        with torch.no_grad():
            write_json(file, {"top1": evaluate(net, test, device=setting.device)})
    top1 = read_json(file)["top1"]
    return {"name": "float", "weights": 1.0, "bops": 1.0, "top1": top1, "epochs": 0}


def _float_costs(setting: Setting) -> dict[str, float]:
    """BOPs and weight bytes of the network in 32-bit floats."""
    found = sites(setting.spec)
    return {
        "bops": float(sum(site.macs for site in found)) * FLOAT_BITS**2,
        "bytes": sum(site.weights for site in found) * FLOAT_BITS / 8,
    }


def _record(
    setting: Setting,
    name: str,
    policy: Policy,
    accuracy: float,
    epochs: float,
    whole: Mapping[str, float],
) -> Record:
    return {
        "name": name,
        "policy": policy.to_json(),
        "weights": whole["bytes"] / setting.tables["bytes"].of(policy),
        "bops": whole["bops"] / setting.tables["bops"].of(policy),
        "top1": accuracy,
        "epochs": epochs,
    }


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
