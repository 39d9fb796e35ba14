"""Claim 2: what barrier, Prob-1 and reshaping each do, by leaving them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from mpqdeploy.core.files import read_json, write_json
from mpqdeploy.data import Loader
from mpqdeploy.nn.training import Recipe, evaluate, train
from mpqdeploy.search import BpNasSettings, Problem, Result, load_network
from mpqdeploy.search.barrier import Barrier
from mpqdeploy.search.bpnas import InsideBarriers
from mpqdeploy.search.engine import ignore
from mpqdeploy.search.folder import SearchFolder
from mpqdeploy.search.penalty import Price
from mpqdeploy.search.supernet import search_supernet
from mpqdeploy.ui import Ui
from searching.setting import Setting

PARTS = ("barrier", "prob1", "reshape")
COLUMNS = (*PARTS, "argmax inside", "repairs", "upgrades", "least max p", "test accuracy")
ROOM = 0.3
VANISHING = 1e-9
"""Weight of a Prob-1 that is left out: what the end of the ramp makes of it decides nothing."""


def ablation(
    setting: Setting, settings: BpNasSettings, folder: Path, seeds: int, ui: Ui
) -> list[dict[str, Any]]:
    """Every combination for every seed, under latency and bytes at 30 % of their ranges."""
    records = []
    for combination in product((True, False), repeat=len(PARTS)):
        parts = dict(zip(PARTS, combination, strict=True))
        for seed in range(seeds):
            name = "-".join([*(part for part, on in parts.items() if on), f"seed{seed}"])
            file = folder / f"{name}.json"
            if not file.exists():
                write_json(file, _record(setting, settings, folder / name, parts, seed))
            records.append(read_json(file))
            ui.note(f"  {name}: {records[-1]['moves']} repairs")
    return records


def summary(records: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A row per combination, over its seeds."""
    rows = []
    for combination in product((True, False), repeat=len(PARTS)):
        group = [r for r in records if tuple(r["parts"][part] for part in PARTS) == combination]
        if group:
            rows.append([*("on" if on else "off" for on in combination), *_cells(group)])
    return rows


def _record(
    setting: Setting,
    settings: BpNasSettings,
    folder: Path,
    parts: Mapping[str, bool],
    seed: int,
) -> dict[str, Any]:
    problem = setting.problem(
        setting.budget("latency", ROOM), setting.budget("bytes", ROOM), seed=seed
    )
    chosen = replace(
        settings,
        prob1_weight=settings.prob1_weight if parts["prob1"] else VANISHING,
        reshape=parts["reshape"],
    )
    barrier = Barrier(kind=settings.barrier, weight=settings.barrier_weight)
    method = InsideBarriers(term=barrier if parts["barrier"] else Price(weight=0.0), spend=True)
    result = search_supernet(problem, chosen, method, SearchFolder(folder), ignore)
    decided = max(epoch.epoch for epoch in result.history) - round(chosen.adapt * chosen.epochs)
    before = result.history[max(decided - 2, 0)]
    return {
        "parts": dict(parts),
        "seed": seed,
        "moves": result.moves,
        "upgrades": result.upgrades,
        "least_max_probability": min(before.max_probability.values()),
        "test_accuracy": _tuned(setting, problem, result),
    }


def _tuned(setting: Setting, problem: Problem, result: Result) -> float:
    """Test accuracy after five epochs of fine-tuning."""
    net = load_network(setting.spec, result)
    recipe = Recipe(epochs=5, batch_size=64, lr=0.02, weight_decay=1e-4)
    loader = Loader.training(setting.dataset, "fit", batch_size=64, seed=problem.seed)
    train(net, loader, recipe, seed=problem.seed, device=setting.device)
    return evaluate(net, Loader(setting.dataset, "test", batch_size=250), device=setting.device)


def _cells(group: Sequence[Mapping[str, Any]]) -> list[str]:
    accuracies = [100 * r["test_accuracy"] for r in group]
    return [
        f"{sum(r['moves'] == 0 for r in group)}/{len(group)}",
        f"{np.mean([r['moves'] for r in group]):.1f}",
        f"{np.mean([r['upgrades'] for r in group]):.1f}",
        f"{min(r['least_max_probability'] for r in group):.2f}",
        f"{np.mean(accuracies):.1f} ± {np.std(accuracies):.1f} %",
    ]
