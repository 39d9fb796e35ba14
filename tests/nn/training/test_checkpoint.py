from __future__ import annotations

from pathlib import Path

import pytest
import torch
from brevitas import nn as qnn
from torch import nn

from mpqdeploy.core import CheckpointError
from mpqdeploy.nn.training import Recipe, network_state, train
from tests.nn.training.problem import RECIPE, Blobs, make_net


def test_another_networks_checkpoint_is_refused_naming_the_tensor(tmp_path: Path) -> None:
    file = tmp_path / "train.pt"
    train(make_net(), Blobs(), Recipe(epochs=1), device="cpu", checkpoint=file)
    other = nn.Sequential(nn.Flatten(), nn.Linear(36, 2))
    with pytest.raises(CheckpointError, match=r"train\.pt"):
        train(other, Blobs(), Recipe(epochs=2), device="cpu", checkpoint=file)


@pytest.mark.parametrize("damage", ["cut", "noise"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "train.pt"
    train(make_net(), Blobs(), Recipe(epochs=1), device="cpu", checkpoint=file)
    file.write_bytes(file.read_bytes()[:500] if damage == "cut" else b"noise" * 100)
    with pytest.raises(CheckpointError, match=r"train\.pt: cannot be read"):
        train(make_net(), Blobs(), RECIPE, device="cpu", checkpoint=file)


def _quantized_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        qnn.QuantConv2d(1, 4, 3, weight_bit_width=4),
        nn.BatchNorm2d(4),
        qnn.QuantReLU(bit_width=4),
        nn.Flatten(),
        qnn.QuantLinear(64, 2, bias=True, weight_bit_width=4),
    )


def test_a_brevitas_scale_that_still_collects_statistics_resumes(tmp_path: Path) -> None:
    """6 steps an epoch against the 300 that a learned activation scale looks at first."""
    recipe = Recipe(epochs=3, lr=0.01)
    whole, second = _quantized_net(), _quantized_net()
    train(whole, Blobs(), recipe, device="cpu")

    class StopError(Exception):
        pass

    def stop(progress: object) -> None:
        raise StopError

    file = tmp_path / "train.pt"
    with pytest.raises(StopError):
        train(_quantized_net(), Blobs(), recipe, device="cpu", checkpoint=file, on_epoch=stop)
    train(second, Blobs(), recipe, device="cpu", checkpoint=file)
    first, again = network_state(whole), network_state(second)
    assert first["flags"] == again["flags"]
    assert any(value == 18 for value in first["flags"].values())
    for name, tensor in first["tensors"].items():
        assert torch.equal(tensor, again["tensors"][name]), name
