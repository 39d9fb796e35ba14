"""Tuning a program that no profile knows: by measurement, once, and never of nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from mpqdeploy.core import ModelError, TargetError
from mpqdeploy.provenance import measurements
from mpqdeploy.targets.compile import compile_qonnx
from mpqdeploy.targets.fingerprint import host_fingerprint, short_hash
from mpqdeploy.targets.kernels.shares import SHARES
from mpqdeploy.targets.passes.integerize import integerize
from mpqdeploy.targets.passes.normalize import normalize
from mpqdeploy.targets.records import RecordStore
from mpqdeploy.targets.target import NAMED, load_target
from mpqdeploy.targets.tune import Tuning, tune
from tests.targets import graphs

HOST = load_target("host")


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    return RecordStore(f"sqlite:///{tmp_path / 'latency.sqlite'}")


def test_every_layer_is_timed_once_and_then_chosen(tmp_path: Path, store: RecordStore) -> None:
    model = tmp_path / "net.onnx"
    onnx.save(graphs.conv_chain(1), model)
    found: list[Tuning] = []
    seen: list[tuple[int, int, str]] = []
    for _ in range(2):
        compiled = compile_qonnx(
            model,
            HOST,
            tmp_path / "net.so",
            measured=measurements(HOST, store),
            before_select=lambda program: found.append(
                tune(program, HOST, store, progress=lambda *event: seen.append(event))
            ),
        )
        layers = [step for step in compiled.report.steps if step.precision]
        assert layers
        assert all(step.measured for step in layers)
        assert "tune" in compiled.report.seconds
    first, second = found
    assert first.timed == first.candidates == second.candidates > len(layers)
    assert second.timed == 0
    assert seen[-1][:2] == (first.candidates, first.candidates)


def test_threads_have_records_of_their_own(store: RecordStore) -> None:
    """On two, shares are among the candidates; what one thread's library is made of stays."""
    program = integerize(normalize(graphs.mlp(1)))
    pair = replace(HOST, threads=2)
    one, two = (tune(program, target, store) for target in (HOST, pair))
    assert one.timed == one.candidates
    assert two.timed == two.candidates > one.candidates
    machine = short_hash(host_fingerprint())
    alone, together = (store.entries(target.key, machine).values() for target in (HOST, pair))
    assert {entry.schedule.get(SHARES, 1) for entry in alone} == {1}
    assert {entry.schedule.get(SHARES, 1) for entry in together} == {1, 2}


def test_nothing_to_measure_is_an_error(store: RecordStore) -> None:
    program = replace(integerize(normalize(graphs.conv_chain(1))), steps=())
    with pytest.raises(ModelError, match="nothing to tune"):
        tune(program, HOST, store)


def test_another_machine_is_not_measured_here(store: RecordStore) -> None:
    elsewhere = next((target for target in NAMED.values() if target.missing()), None)
    if elsewhere is None:
        pytest.skip("this machine is every target there is")
    program = integerize(normalize(graphs.conv_chain(1)))
    with pytest.raises(TargetError):
        tune(program, elsewhere, store)
