"""Every model, exported with mixed precisions, gives in qonnx's executor what it gives in torch."""

from __future__ import annotations

from collections import Counter
from itertools import cycle

import numpy as np
import pytest
import torch

from mpqdeploy.core import Policy, Precision
from mpqdeploy.nn import ModelSpec, build_quantized, calibrate, sites
from mpqdeploy.nn.quantizers import ActQuant, WeightQuant
from tests.nn.executor import executed, exported, randomise_batchnorm

MIXED = tuple(Precision.parse(text) for text in ("1/2", "4/4", "1/1", "2/2", "4/8", "3/6"))
STANDARD = {
    "Add", "AveragePool", "BatchNormalization", "Clip", "Conv", "Gemm", "MaxPool", "Pad", "Relu",
    "Reshape", "Slice",
}  # fmt: skip


def mixed_network(spec):
    torch.manual_seed(0)
    choice = cycle(MIXED)
    policy = Policy(precisions={s.name: s.pinned or next(choice) for s in sites(spec)})
    net = build_quantized(spec, policy)
    randomise_batchnorm(net)
    images = torch.randn(4, *spec.image)
    calibrate(net, [images])
    return net.eval(), images


def check(spec, folder):
    net, images = mixed_network(spec)
    with torch.no_grad():
        expected = net(images).numpy()
    model = exported(net, images, folder)
    kinds = Counter(node.op_type for node in model.graph.node)
    assert set(kinds) - {"Quant", "BipolarQuant"} <= STANDARD
    assert kinds["Conv"] + kinds["Gemm"] == len(sites(spec))
    bipolar = [q for q in net.modules() if isinstance(q, WeightQuant) and q.bits == 1]
    bipolar += [q for q in net.modules() if isinstance(q, ActQuant) and q.codes.bipolar]
    assert kinds["BipolarQuant"] == len(bipolar) > 0
    # Rounding may differ by one code at a threshold: most images have no such value.
    errors = [
        np.abs(executed(model, images[i : i + 1]) - expected[i]).max() / np.abs(expected[i]).max()
        for i in range(len(images))
    ]
    assert np.median(errors) < 1e-5
    assert max(errors) < 0.1


def test_digits_cnn(tmp_path):
    check(ModelSpec(name="digits_cnn", num_classes=10, image=(1, 8, 8)), tmp_path)


def test_resnet20(tmp_path):
    spec = ModelSpec(name="resnet20", num_classes=10, image=(3, 32, 32), options={"width": 8})
    check(spec, tmp_path)


@pytest.mark.slow
def test_resnet20_at_full_width(tmp_path):
    check(ModelSpec(name="resnet20", num_classes=10, image=(3, 32, 32)), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize(
    ("name", "options"),
    [("resnet18", {"width": 16}), ("resnet50", {"width": 8}), ("mobilenetv2", {"width": 0.5})],
)
def test_imagenet_models(name, options, size, tmp_path):
    check(ModelSpec(name=name, num_classes=10, image=(3, size, size), options=options), tmp_path)
