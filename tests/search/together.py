"""What several processes search together, to be compared with one process; torchrun starts it."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import torch

from mpqdeploy.data import Loader
from mpqdeploy.nn import Mode, build_supernet, calibrate
from mpqdeploy.nn.training import World, joined, network_state, seed_everything
from mpqdeploy.search.barrier import Barrier
from mpqdeploy.search.baselines import Random
from mpqdeploy.search.bilevel import Bilevel
from mpqdeploy.search.bpnas import BpNas
from mpqdeploy.search.cost import ExpectedCosts
from mpqdeploy.search.engine import SearchEngine
from mpqdeploy.search.penalty import Penalty
from mpqdeploy.search.sensitivity import Sensitivity, SensitivitySettings
from mpqdeploy.search.settings import BpNasSettings
from tests.search.problems import tiny_problem

BATCH = 16
MODES = get_args(Mode)


def stepped(mode: Mode, world: World) -> dict[str, Any]:
    """Steps of both levels in float64, where the order of a sum makes no difference."""
    problem = tiny_problem(bops=0.4)
    seed_everything(0)
    net = build_supernet(problem.spec, problem.candidates, mode).double()
    whole = next(Loader(problem.dataset, "train", batch_size=64).epoch(0))[0]
    calibrate(net, [whole.double()])
    costs = ExpectedCosts(problem.tables, problem.budgets, problem.candidates, dtype=torch.float64)
    settings = BpNasSettings(mode=mode, theta_lr=0.1)
    bilevel = Bilevel(net, costs, Barrier(), settings, world)
    train, search = (
        Loader.training(problem.dataset, split, batch_size=BATCH, shard=world.shard)
        for split in ("train", "search")
    )
    terms: list[dict[str, float]] = []
    with world.together(net, freezing=True) as bilevel.forward:
        for epoch in range(2):
            for (x, y), (u, v) in zip(train.epoch(epoch), search.epoch(epoch), strict=False):
                loss = bilevel.weight_step(x.double(), y, 0.01)
                terms.append(bilevel.theta_step(u.double(), v, 0.5, note=True) | {"train": loss})
    return {
        "state": network_state(net)["tensors"],
        "terms": terms,
        "advantages": bilevel.advantages.state()["sums"],
    }


def searched(world: World, folder: Path, epochs: int = 3) -> dict[str, Any]:
    problem = replace(tiny_problem(bops=0.4), world=world)
    result = BpNas(BpNasSettings(epochs=epochs, batch_size=BATCH, val_batches=1)).search(
        problem, folder
    )
    return {
        "policy": result.policy.to_json(),
        "probabilities": {s: list(p.values()) for s, p in result.probabilities.items()},
        "weights": torch.load(result.weights, weights_only=True)["tensors"],
        "history": [dict(epoch.losses) for epoch in result.history],
    }


def compared(world: World, folder: Path) -> dict[str, Any]:
    """The policies of the engines that BP-NAS is compared with."""
    problem = replace(tiny_problem(bops=0.4), world=world)
    settings = BpNasSettings(epochs=2, batch_size=BATCH, val_batches=1)
    engines: dict[str, SearchEngine] = {
        "penalty": Penalty(settings, searches=2),
        "sensitivity": Sensitivity(SensitivitySettings(images=64, probes=2)),
        "random": Random(trials=2),
    }
    return {
        name: engine.search(problem, folder / name).policy.to_json()
        for name, engine in engines.items()
    }


def main(out: Path) -> None:
    with joined("cpu") as world:
        results: dict[str, Any] = {mode: stepped(mode, world) for mode in MODES}
        with tempfile.TemporaryDirectory() as folder:
            results["searched"] = searched(world, Path(folder) / "engine")
            results["compared"] = compared(world, Path(folder))
    torch.save(results, out / f"rank{world.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
