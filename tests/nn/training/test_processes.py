"""Two gloo processes with half of every batch each train as one process with the whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mpqdeploy.nn.training import ALONE
from tests.data.files import write_image_folder
from tests.nn.training.together import KINDS, trained

pytestmark = pytest.mark.slow

Results = dict[str, Any]
TINY_IMAGENET = Path(__file__).parents[4] / "shared" / "data" / "tiny-imagenet-40"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs where they are, else drawn ones."""
    if TINY_IMAGENET.is_dir():
        return TINY_IMAGENET
    return write_image_folder(tmp_path_factory.mktemp("images"), count=16)


@pytest.fixture(scope="module")
def ranks(images: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Results]:
    pytest.importorskip("lightning_fabric")
    out = tmp_path_factory.mktemp("out")
    torchrun(2, "tests.nn.training.together", str(images), str(out))
    return [torch.load(out / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


def torchrun(count: int, module: str, *arguments: str) -> None:
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    command = [sys.executable, *launch, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


def distance(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    """Greatest difference over all tensors, each relative to its greatest magnitude."""
    assert first.keys() == second.keys()
    return max(
        float((first[n] - second[n]).abs().max() / second[n].abs().max().clamp_min(1e-6))
        for n in first
    )


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def alone(kind: str, images: Path) -> Results:
    return trained(kind, images, ALONE)


def test_the_gradients_are_those_of_the_whole_batch(
    kind: str, alone: Results, ranks: list[Results]
) -> None:
    for rank in ranks:
        assert distance(rank[kind]["gradients"], alone["gradients"]) < 1e-9


def test_every_process_ends_with_the_same_network(kind: str, ranks: list[Results]) -> None:
    first, second = (rank[kind]["state"] for rank in ranks)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_network_is_that_of_one_process(
    kind: str, alone: Results, ranks: list[Results]
) -> None:
    """Weights and BatchNorm's running statistics after two epochs, in float64: there, no code of
    the quantized network flips because a sum was added in another order."""
    near = 1e-6
    assert distance(ranks[0][kind]["state"], alone["state"]) < near
    assert ranks[0][kind]["losses"] == pytest.approx(alone["losses"], rel=near)
    assert ranks[0][kind]["accuracies"] == pytest.approx(alone["accuracies"], abs=1e-6)


def test_batchnorm_is_plain_again_afterwards(
    kind: str, alone: Results, ranks: list[Results]
) -> None:
    assert ranks[0][kind]["kinds"] == alone["kinds"]


def test_a_run_resumes_from_the_leaders_checkpoint(ranks: list[Results]) -> None:
    for rank in ranks:
        resumed, straight = rank["resumed"], rank["float"]
        assert resumed["losses"] == straight["losses"]
        assert all(torch.equal(resumed["state"][n], t) for n, t in straight["state"].items())
