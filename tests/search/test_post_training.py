"""Post-training quantization: scales that fit what the network computes, and usual gradients."""

from __future__ import annotations

from functools import partial
from itertools import islice

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mpqdeploy.core import Policy, Precision
from mpqdeploy.data import Dataset, DataSpec, Loader, load_dataset
from mpqdeploy.nn import ModelSpec, build_float, sites
from mpqdeploy.nn.training import Recipe, seed_everything, train
from mpqdeploy.nn.transfer import act_quantizers
from mpqdeploy.search.post_training import quantized_after_training

# Deep, so that an error per layer is seen as the product of many.
SPEC = ModelSpec(name="mobile_cifar", num_classes=10, image=(1, 8, 8))


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load_dataset(DataSpec(name="digits", limit={"train": 256, "search": 64, "val": 64}))


@pytest.fixture(scope="module")
def barely_trained(dataset: Dataset) -> nn.Module:
    """After four steps, which the running statistics of BatchNorm lag behind."""
    seed_everything(0)
    net = build_float(SPEC)
    recipe = Recipe(epochs=1, batch_size=64, lr=0.05)
    train(net, Loader.training(dataset, "train", batch_size=64), recipe, device="cpu")
    return net


def quantized(source: nn.Module, dataset: Dataset, precision: str) -> nn.Module:
    chosen = Precision.parse(precision)
    policy = Policy(precisions={site.name: site.pinned or chosen for site in sites(SPEC)})
    return quantized_after_training(source, SPEC, policy, dataset, device="cpu")


def images_of(dataset: Dataset) -> tuple[Tensor, Tensor]:
    images, labels = next(iter(Loader.training(dataset, "train", batch_size=64)))
    assert isinstance(labels, Tensor)
    return images, labels


@pytest.mark.parametrize("precision", ["8/8", "4/4", "1/1"])
def test_gradients_of_a_barely_trained_deep_network_are_of_usual_size(
    barely_trained: nn.Module, dataset: Dataset, precision: str
) -> None:
    net = quantized(barely_trained, dataset, precision).train()
    images, labels = images_of(dataset)
    cross_entropy(net(images), labels).backward()
    squares = [float(p.grad.square().sum()) for p in net.parameters() if p.grad is not None]
    # With scales calibrated to the running statistics: 1e14 at 8/8, 1e17 at 4/4.
    assert sum(squares) ** 0.5 < 300


def test_scales_cover_what_arrives_in_training(barely_trained: nn.Module, dataset: Dataset) -> None:
    net = quantized(barely_trained, dataset, "8/8").train()
    quantizers = list(act_quantizers(net).values())
    largest = [0.0] * len(quantizers)
    for position, quantizer in enumerate(quantizers):
        quantizer.observer = partial(_note, largest, position)
    with torch.no_grad():
        net(images_of(dataset)[0])
        for quantizer, seen in zip(quantizers, largest, strict=True):
            assert 0.5 < float(quantizer.scale) * quantizer.codes.high / seen < 2.0


def _note(largest: list[float], position: int, x: Tensor) -> None:
    largest[position] = float(x.abs().max())


def test_statistics_are_those_of_augmented_images(
    barely_trained: nn.Module, dataset: Dataset
) -> None:
    """As the network was trained: the first BatchNorm's mean says which images it saw."""
    net = quantized(barely_trained, dataset, "8/8").eval()
    first = next(module for module in net.modules() if isinstance(module, nn.BatchNorm2d))
    seen: list[Tensor] = []
    first.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    loader = Loader.training(dataset, "train", batch_size=64)
    with torch.no_grad():
        for images, _ in islice(iter(loader), 4):
            net(images)
    means = torch.stack([x.mean((0, 2, 3)) for x in seen]).mean(0)
    torch.testing.assert_close(first.running_mean, means, rtol=1e-4, atol=1e-5)
