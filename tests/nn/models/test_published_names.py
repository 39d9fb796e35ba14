"""Published checkpoints load by name: the names are those that torchvision gives its weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mpqdeploy.core import Precision
from mpqdeploy.nn import ModelSpec, build_float, build_supernet, load_checkpoint, sites

IMAGENET = (3, 224, 224)


def batchnorm(name: str) -> Iterator[str]:
    for kind in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        yield f"{name}.{kind}"


def resnet(convolutions: int, counts: tuple[int, ...], projected: tuple[int, ...]) -> Iterator[str]:
    yield "conv1.weight"
    yield from batchnorm("bn1")
    for stage, count in enumerate(counts, start=1):
        for block in range(count):
            place = f"layer{stage}.{block}"
            for number in range(1, convolutions + 1):
                yield f"{place}.conv{number}.weight"
                yield from batchnorm(f"{place}.bn{number}")
            if block == 0 and stage in projected:
                yield f"{place}.downsample.0.weight"
                yield from batchnorm(f"{place}.downsample.1")
    yield from ("fc.weight", "fc.bias")


def mobilenet() -> Iterator[str]:
    yield "features.0.0.weight"
    yield from batchnorm("features.0.1")
    for block in range(1, 18):
        units = 1 if block == 1 else 2  # the first block does not expand
        place = f"features.{block}.conv"
        for unit in range(units):
            yield f"{place}.{unit}.0.weight"
            yield from batchnorm(f"{place}.{unit}.1")
        yield f"{place}.{units}.weight"
        yield from batchnorm(f"{place}.{units + 1}")
    yield "features.18.0.weight"
    yield from batchnorm("features.18.1")
    yield from ("classifier.1.weight", "classifier.1.bias")


PUBLISHED = {
    "resnet18": tuple(resnet(2, (2, 2, 2, 2), (2, 3, 4))),
    "resnet50": tuple(resnet(3, (3, 4, 6, 3), (1, 2, 3, 4))),
    "mobilenetv2": tuple(mobilenet()),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_names_are_the_published_ones(name: str) -> None:
    with torch.device("meta"):
        net = build_float(ModelSpec(name=name, num_classes=1000, image=IMAGENET))
    assert set(net.state_dict()) == set(PUBLISHED[name])


def test_the_stride_of_a_bottleneck_is_that_of_its_3x3() -> None:
    spec = ModelSpec(name="resnet50", num_classes=1000, image=IMAGENET)
    by_name = {site.name: site.geometry for site in sites(spec)}
    assert by_name["layer2.0.conv1"].stride == (1, 1)
    assert by_name["layer2.0.conv2"].stride == (2, 2)
    assert by_name["layer4.2.conv3"].out_channels == 2048


def test_a_published_checkpoint_loads_into_every_form(tmp_path: Path) -> None:
    spec = ModelSpec(name="resnet50", num_classes=10, image=(3, 64, 64), options={"width": 4})
    torch.manual_seed(0)
    source = build_float(spec)
    file = tmp_path / "resnet50.pth"
    torch.save({name: source.state_dict()[name] for name in PUBLISHED["resnet50"]}, file)
    eight = Precision(weight_bits=8, act_bits=8)
    net = build_supernet(spec, {site.name: [eight] for site in sites(spec)})
    load_checkpoint(net, file)
    loaded = net.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in source.state_dict().items())
