from __future__ import annotations

import pytest
import torch
from torch import nn

from mpqdeploy.core import ConfigError, DataError
from mpqdeploy.nn.training import evaluate, recalibrate_batchnorm
from tests.nn.training.problem import Blobs, make_net


class _Fixed(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)[:, :2]


def test_accuracy_is_the_share_of_right_answers() -> None:
    images = torch.tensor([[2.0, 1.0], [0.0, 1.0], [5.0, 9.0]]).reshape(3, 1, 1, 2)
    batches = [(images[:2], torch.tensor([0, 0])), (images[2:], torch.tensor([1]))]
    assert evaluate(_Fixed(), batches) == pytest.approx(2 / 3)


def test_the_mode_of_the_network_is_kept() -> None:
    net = make_net().train()
    before = net.get_buffer("1.running_mean").clone()
    evaluate(net, Blobs().epoch(0), device="cpu")
    assert net.training
    assert torch.equal(net.get_buffer("1.running_mean"), before)


def test_no_images_and_no_device() -> None:
    with pytest.raises(DataError, match="no images"):
        evaluate(make_net(), [])
    with pytest.raises(ConfigError, match="'tpu'"):
        evaluate(make_net(), Blobs().epoch(0), device="tpu")


def test_recalibration_averages_the_batches() -> None:
    net = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten()).eval()
    batches = [batch for epoch in range(3) for batch in Blobs().epoch(epoch)]
    recalibrate_batchnorm(net, batches, limit=5)
    means = torch.stack([images.mean() for images, _ in batches[:5]])
    assert net.get_buffer("0.running_mean").item() == pytest.approx(means.mean().item(), abs=1e-6)
    assert not net.training
    assert net[0].momentum == 0.1
