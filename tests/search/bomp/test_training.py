"""A trial's training: what it reports, and that a killed one ends as an undisturbed one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mpqdeploy.core import parse_precisions
from mpqdeploy.data import Dataset, DataSpec, load_dataset
from mpqdeploy.nn import ModelSpec
from mpqdeploy.nn.training import Progress, Recipe, TrainingError
from mpqdeploy.nn.training.loop import OnProgress
from mpqdeploy.search.bomp.networks import Network, Networks
from mpqdeploy.search.bomp.training import Fidelity, accuracies

FIDELITY = Fidelity(
    training=Recipe(epochs=3, batch_size=32, lr=0.05),
    tuning=Recipe(epochs=1, batch_size=32, lr=0.01),
)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load_dataset(DataSpec(name="digits", limit={"train": 256, "search": 64, "val": 100}))


@pytest.fixture(scope="module")
def network() -> Network:
    base = ModelSpec(name="mobile_digits", num_classes=10, image=(1, 8, 8))
    networks = Networks(base, parse_precisions(("8/8", "2/2")))
    cheap = {
        "stage0.repeats": 0,
        "stage1.repeats": 1,
        "stage2.repeats": 1,
        "stage1.weight_bits": 8,
        "stage2.weight_bits": 2,
        "head.weight_bits": 2,
    }
    return networks.network(networks.space.complete(cheap, np.random.default_rng(0)))


def test_fine_tuning_mends_what_two_bits_break(
    network: Network, dataset: Dataset, tmp_path: Path
) -> None:
    fidelity = Fidelity(
        training=Recipe(epochs=12, batch_size=32, lr=0.05),
        tuning=Recipe(epochs=4, batch_size=32, lr=0.01),
    )
    found = accuracies(network, dataset, fidelity, tmp_path)
    assert found.float32 > 0.5  # chance is 0.1
    assert found.tuned > found.quantized
    assert found.to_json().keys() == {"float32", "quantized", "tuned"}


class KilledError(Exception):
    pass


@pytest.mark.parametrize(("phase", "epoch"), [("float", 2), ("qaft", 1)])
def test_killed_and_called_again_it_ends_the_same(
    network: Network, dataset: Dataset, tmp_path: Path, phase: str, epoch: int
) -> None:
    def kill(now: str) -> OnProgress | None:
        def on_step(progress: Progress) -> None:
            if now == phase and progress.epoch == epoch and progress.step == 3:
                raise KilledError

        return on_step

    whole = accuracies(network, dataset, FIDELITY, tmp_path / "whole")
    with pytest.raises(KilledError):
        accuracies(network, dataset, FIDELITY, tmp_path / "killed", on_phase=kill)
    assert accuracies(network, dataset, FIDELITY, tmp_path / "killed") == whole


def test_without_fine_tuning_the_score_is_that_of_quantization(
    network: Network, dataset: Dataset, tmp_path: Path
) -> None:
    fidelity = Fidelity(training=FIDELITY.training, tuning=Recipe(epochs=0))
    found = accuracies(network, dataset, fidelity, tmp_path)
    assert found.tuned == found.quantized


def test_training_that_diverges_says_so(network: Network, dataset: Dataset, tmp_path: Path) -> None:
    wild = Fidelity(training=Recipe(epochs=1, batch_size=32, lr=1e30), tuning=Recipe(epochs=0))
    with pytest.raises(TrainingError, match="diverged"):
        accuracies(network, dataset, wild, tmp_path)
