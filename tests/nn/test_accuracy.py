"""Post-training quantization of a published network, on real images."""

from __future__ import annotations

import lzma
from pathlib import Path

import numpy as np
import pytest
import torch

from mpqdeploy.core import Policy, Precision
from mpqdeploy.nn import (
    ModelSpec,
    build_float,
    build_quantized,
    calibrate,
    load_checkpoint,
    sites,
    transfer,
)

DATA = Path(__file__).parents[3] / "shared" / "data"
SPEC = ModelSpec(name="resnet20", num_classes=10, image=(3, 32, 32))


def images_of(file, count):
    """The first `count` images, normalised as the published weights want them, and labels."""
    with lzma.open(DATA / "cifar-10-batches-bin" / file) as stream:
        rows = np.frombuffer(stream.read(3073 * count), np.uint8).reshape(count, 3073)
    pixels = torch.from_numpy(rows[:, 1:].copy()).reshape(-1, 3, 32, 32).float() / 255
    mean = torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).reshape(3, 1, 1)
    return (pixels - mean) / std, torch.from_numpy(rows[:, 0].astype(np.int64))


def accuracy(net, images, labels):
    with torch.no_grad():
        hits = [
            (net.eval()(x).argmax(1) == y).sum().item()
            for x, y in zip(images.split(250), labels.split(250), strict=True)
        ]
    return sum(hits) / len(labels)


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="CIFAR-10 and pretrained weights are not here")
def test_resnet20_keeps_its_accuracy_at_eight_bits():
    net = build_float(SPEC)
    load_checkpoint(net, DATA / "pretrained" / "resnet20-12fca82f.th")
    images, labels = images_of("test_batch.bin.xz", 5000)
    before = accuracy(net, images, labels)
    assert before == pytest.approx(0.9173, abs=0.01)  # on all 10,000 images

    quantized = build_quantized(SPEC, Policy.uniform(sites(SPEC), Precision.parse("8/8")))
    transfer(net, quantized)
    calibrate(quantized, images_of("data_batch_1.bin.xz", 512)[0].split(128))
    assert accuracy(quantized, images, labels) > before - 0.003
