"""A run in several processes: what the others are told, and what they do with it."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mpqdeploy.config import Config
from mpqdeploy.core import Policy, Precision
from mpqdeploy.nn import sites
from mpqdeploy.nn.training import Recipe, World
from mpqdeploy.search.engine import Problem
from mpqdeploy.steps import together
from mpqdeploy.steps.together import Follower, Searching, Training, follow
from tests.forks import ONE_THREAD
from tests.runs import write_config
from tests.search.problems import tiny_problem

CONFIG = {
    "model": {"name": "digits_cnn", "options": {"width": 4}},
    "data": {"name": "digits", "limit": {"train": 64, "search": 32, "val": 40, "test": 40}},
    "search": {"engine": "uniform"},
    "device": "cpu",
}


class Told(World):
    """A follower that was told these jobs."""

    def __init__(self, *jobs: Any) -> None:
        self.jobs = [pickle.loads(pickle.dumps(job)) for job in jobs]

    def hear(self) -> Any:
        return self.jobs.pop(0) if self.jobs else None


def follower(world: World) -> Follower:
    problem = tiny_problem()
    config = Config.read(CONFIG, "test")
    return Follower(config=config, dataset=problem.dataset, spec=problem.spec, world=world)


@pytest.mark.parametrize("quantized", [False, True])
def test_a_follower_builds_the_network_it_is_told_to_train(
    quantized: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(together, "train", lambda *args, **kwargs: seen.append((args, kwargs)))
    spec = tiny_problem().spec
    four = Precision(weight_bits=4, act_bits=4)
    policy = Policy.uniform(sites(spec), four).to_json() if quantized else None
    follow(
        Config.read(CONFIG, "test"),
        Told(Training(recipe=Recipe(epochs=1, batch_size=8), policy=policy, reshape=True)),
    )
    ((net, loader, recipe), options) = seen[0]
    assert any("log_scale" in name for name, _ in net.named_parameters()) == quantized
    assert loader.split == "fit"
    assert loader.batch_size == recipe.batch_size == 8
    assert options["post_step"] is not None
    assert "checkpoint" not in options  # the leader's alone


def test_a_follower_searches_from_what_the_leaders_folder_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = tmp_path / "engine"
    (held / "deep").mkdir(parents=True)
    (held / "deep" / "state.pt").write_bytes(b"state")
    checkpoint = tmp_path / "float.pt"
    checkpoint.write_bytes(b"weights")
    given = Problem(**{**vars(tiny_problem(bops=0.4)), "checkpoint": checkpoint})
    seen: list[Any] = []

    class Engine:
        def search(self, problem: Problem, folder: Path) -> None:
            content = (folder / "deep" / "state.pt").read_bytes()
            assert problem.checkpoint is not None
            identity = problem.identity()
            seen.append((problem, content, problem.checkpoint.read_bytes(), folder, identity))

    monkeypatch.setattr(together, "make_engine", lambda section: Engine())
    job = pickle.loads(pickle.dumps(Searching._of(given, held)))
    world = World()
    job.follow(follower(world))
    problem, state, weights, folder, identity = seen[0]
    assert (state, weights) == (b"state", b"weights")
    assert not folder.exists()
    assert problem.world is world
    assert identity == given.identity()
    assert problem.demand() == given.demand()


@pytest.mark.slow
def test_two_processes_run_as_one_and_one_of_them_writes(tmp_path: Path) -> None:
    pytest.importorskip("lightning_fabric")
    store = tmp_path / "store.sqlite"
    runs = {count: tmp_path / f"run{count}" for count in (1, 2)}
    outputs = {}
    for count, folder in runs.items():
        config = write_config(tmp_path / f"{count}.yaml", store=store, run_dir=folder)
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
        command = [sys.executable, *launch, "-m", "mpqdeploy", "search", str(config)]
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, **ONE_THREAD}, timeout=900
        )
        assert done.returncode == 0, done.stderr[-3000:]
        outputs[count] = done
    both = [outputs[count].stdout for count in (1, 2)]
    assert len(both[0].splitlines()) == len(both[1].splitlines())  # nothing is printed twice
    started = re.findall(r"^float network \.\.\.$", outputs[2].stderr, re.MULTILINE)
    assert len(started) == 1
    files = [{str(p.relative_to(run)) for p in run.rglob("*")} for run in runs.values()]
    assert {f for f in files[0] if "weights-" not in f and "result-" not in f} == {
        f for f in files[1] if "weights-" not in f and "result-" not in f
    }
    one, two = (torch.load(run / "steps" / "float" / "float.pt") for run in runs.values())
    for name, value in one.items():
        # In float32, where every step differs by what a sum in another order makes of the last.
        torch.testing.assert_close(two[name], value, rtol=1e-2, atol=1e-2)
