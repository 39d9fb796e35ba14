"""A trial: what it starts, waits for, keeps and removes. Compiler and clock are stand-ins."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpqdeploy.config import Config
from mpqdeploy.core import Fingerprint, LatencyRecord, ModelError, Policy, Protocol
from mpqdeploy.nn.training import TrainingError
from mpqdeploy.run_folder import RunFolder
from mpqdeploy.search.bomp.networks import Networks
from mpqdeploy.steps import trial as module
from mpqdeploy.steps.context import Context, prepare
from mpqdeploy.steps.draft import Reference
from mpqdeploy.steps.drafting import Draft
from mpqdeploy.steps.study import networks_of
from mpqdeploy.steps.trial import Trials, fidelity_of
from mpqdeploy.ui import Ui

RECORD = LatencyRecord(
    samples_us=(7.0, 7.5, 8.0),
    protocol=Protocol(),
    fingerprint=Fingerprint(cpu="c", features=(), cores=1, tvm="t", system="s"),
)


class Compiler:
    """In the place of `Ahead`; `answer` is what compiling ends with."""

    def __init__(self, answer: Exception | None = None) -> None:
        self.answer = answer
        self.drafts: list[Draft] = []
        self.pauses = 0

    def begin(self, draft: Draft, library: Path) -> Future[Path]:
        self.drafts.append(draft)
        work: Future[Path] = Future()
        if self.answer is None:
            work.set_result(library)
        else:
            work.set_exception(self.answer)
        return work

    @contextmanager
    def paused(self) -> Iterator[None]:
        self.pauses += 1
        yield


@pytest.fixture
def context(tmp_path: Path) -> Context:
    values: dict[str, Any] = {
        "model": {"name": "mobile_digits"},
        "data": {"name": "digits", "limit": {"train": 64, "search": 32, "val": 32, "test": 32}},
        "search": {"engine": "bomp-nas", "bomp": {"epochs": 1, "qaft_epochs": 1}},
        "train": {"epochs": 50, "batch_size": 32, "lr": 0.05},
        "finetune": {"epochs": 9, "batch_size": 32, "lr": 0.01},
        "measure": {"store": f"sqlite:///{tmp_path / 'records.sqlite'}"},
    }
    return prepare(Config.read(values, "test"), RunFolder(tmp_path / "run"), Ui(quiet=True))


class Bench:
    def __init__(
        self, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiler: Compiler
    ) -> None:
        self.networks: Networks = networks_of(context)
        self.scratch = tmp_path / "scratch"
        self.timed: list[Policy] = []
        monkeypatch.setattr(module, "time_library", self._time)
        against = Reference(record=RECORD, library=tmp_path / "reference.so")
        self.trials = Trials(
            context=context,
            networks=self.networks,
            against=against,
            ahead=compiler,
            scratch=self.scratch,
        )
        cheap = {"stage0.repeats": 0, "stage1.repeats": 1, "stage2.repeats": 1}
        self.point = self.networks.space.complete(cheap, np.random.default_rng(0))

    def _time(
        self, context: Context, policy: Policy, library: Path, against: Reference
    ) -> LatencyRecord:
        assert library.name == "draft.so"
        self.timed.append(policy)
        return RECORD


def test_a_trial_trains_short_and_times_the_very_network(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = Compiler()
    bench = Bench(context, tmp_path, monkeypatch, compiler)
    ending = bench.trials(bench.point, 0)
    assert not bench.timed
    found = ending()
    network = bench.networks.network(bench.point)
    assert found.costs == {**network.counted, "latency": 7.5}
    assert found.accuracy == found.details["accuracies"]["tuned"]
    assert Policy.from_json(found.details["policy"]) == network.policy
    (draft,) = compiler.drafts
    assert (draft.spec, draft.policy) == (network.spec, network.policy)
    assert bench.timed == [network.policy]
    assert compiler.pauses == 1
    assert not list(bench.scratch.iterdir())


def test_the_recipes_are_the_full_ones_but_for_the_epochs(context: Context) -> None:
    fidelity = fidelity_of(context.config)
    assert (fidelity.training.epochs, fidelity.tuning.epochs) == (1, 1)
    assert (fidelity.training.lr, fidelity.tuning.lr) == (0.05, 0.01)


def test_a_network_that_was_timed_before_is_not_compiled_again(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = Compiler()
    bench = Bench(context, tmp_path, monkeypatch, compiler)
    monkeypatch.setattr(module, "known_draft", lambda *_: RECORD)
    assert bench.trials(bench.point, 0)().costs["latency"] == 7.5
    assert not compiler.drafts
    assert not bench.timed


def test_what_fails_leaves_nothing_and_says_why(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(context, tmp_path, monkeypatch, Compiler(ModelError("no kernel for it.")))
    ending = bench.trials(bench.point, 0)
    with pytest.raises(ModelError, match="no kernel"):
        ending()

    def diverge(*_: object, **__: object) -> None:
        raise TrainingError("diverged")

    monkeypatch.setattr(module, "accuracies", diverge)
    with pytest.raises(TrainingError):
        bench.trials(bench.point, 1)
    assert not list(bench.scratch.iterdir())


def test_a_process_that_another_draft_took_along_compiles_this_one_again(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = Compiler(BrokenProcessPool())
    bench = Bench(context, tmp_path, monkeypatch, compiler)
    ending = bench.trials(bench.point, 0)
    compiler.answer = None
    assert ending().costs["latency"] == 7.5
    assert len(compiler.drafts) == 2
    compiler.answer = BrokenProcessPool()
    ending = bench.trials(bench.point, 1)
    with pytest.raises(ModelError, match="died"):
        ending()


def test_what_is_interrupted_keeps_its_training(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(context, tmp_path, monkeypatch, Compiler())

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "time_library", interrupted)
    ending = bench.trials(bench.point, 0)
    with pytest.raises(KeyboardInterrupt):
        ending()
    (folder,) = bench.scratch.iterdir()
    assert {path.name for path in folder.iterdir()} == {"float.pt", "qaft.pt"}
