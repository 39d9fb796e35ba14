"""Brevitas' own example networks, as Brevitas exports them: right in every layer.

Weights are random, BatchNorm statistics far from trivial. The small ones are whole definitions on
small images; ImageNet's own sizes are slow tests.
"""

from __future__ import annotations

from collections.abc import Callable
from configparser import ConfigParser
from functools import partial
from pathlib import Path

import brevitas_examples
import onnx
import pytest
import torch
from brevitas.export import export_qonnx
from brevitas_examples.bnn_pynq.models import model_impl
from brevitas_examples.imagenet_classification.models.mobilenetv1 import (
    MobileNet,
    quant_mobilenet_v1,
)
from brevitas_examples.imagenet_classification.models.proxylessnas import (
    ProxylessNAS,
    quant_proxylessnas_mobile14,
)
from brevitas_examples.super_resolution.models.espcn import quant_espcn
from torch import nn

from tests.targets.agreeing import executes

EXAMPLES = Path(next(iter(brevitas_examples.__path__)))
DIGIT, SMALL, IMAGE = (1, 1, 28, 28), (1, 3, 32, 32), (1, 3, 224, 224)
Maker = Callable[[], nn.Module]


def config(folder: str, name: str) -> ConfigParser:
    parser = ConfigParser()
    assert parser.read(EXAMPLES / folder / f"{name}.ini")
    return parser


def bnn_pynq(name: str) -> nn.Module:
    settings = config("bnn_pynq/cfg", name)
    return model_impl[settings.get("MODEL", "ARCH")](settings)


def imagenet(make: Callable[[ConfigParser], nn.Module], name: str) -> nn.Module:
    return make(config("imagenet_classification/models/cfg", name))


def little_mobilenet() -> nn.Module:
    return MobileNet(
        channels=[[8], [12], [20, 20]],
        first_stage_stride=False,
        act_bit_width=4,
        weight_bit_width=4,
        avg_pool_kernel_size=8,
        num_classes=10,
        last_layer_bit_width=4,
    )


def little_proxyless() -> nn.Module:
    return ProxylessNAS(
        channels=[[8], [12, 12]],
        init_block_channels=8,
        final_block_channels=32,
        residuals=[[1], [1, 1]],
        shortcuts=[[0], [0, 1]],
        kernel_sizes=[[3], [5, 3]],
        expansions=[[1], [3, 3]],
        bit_width=4,
        depthwise_bit_width=4,
        first_layer_weight_bit_width=8,
        hadamard_classifier=False,
        round_average_pool=False,
        num_classes=10,
    )


def exported(net: nn.Module, shape: tuple[int, ...], path: Path, *, dynamo: bool) -> None:
    """`net` with random statistics, and scales that two batches gave it."""
    net.train()
    with torch.no_grad():
        for _ in range(2):
            net(torch.randn(4, *shape[1:]))
        for module in net.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.copy_(torch.randn(module.num_features) * 0.2)
                module.running_var.copy_(torch.rand(module.num_features) + 0.5)
                module.weight.copy_(torch.rand(module.num_features) + 0.5)
                module.bias.copy_(torch.randn(module.num_features) * 0.3)
        net.eval()(torch.randn(shape))
        export_qonnx(net, torch.randn(shape), str(path), dynamo=dynamo)


def quick(*values: object, name: str) -> object:
    return pytest.param(*values, id=name)


def slow(*values: object, name: str) -> object:
    return pytest.param(*values, id=name, marks=pytest.mark.slow)


FIRST_LAYER = 1  # nodes on floats: Brevitas puts no quantizer on these networks' input
NETWORKS = [
    quick(partial(bnn_pynq, "tfc_1w1a"), DIGIT, 0, True, name="tfc_1w1a"),
    quick(partial(bnn_pynq, "tfc_2w2a"), DIGIT, 0, False, name="tfc_2w2a"),
    quick(partial(bnn_pynq, "cnv_1w2a"), SMALL, 0, False, name="cnv_1w2a"),
    quick(little_mobilenet, (1, 3, 32, 32), FIRST_LAYER, False, name="little_mobilenet"),
    quick(little_proxyless, (1, 3, 28, 28), FIRST_LAYER, False, name="little_proxyless"),
    quick(partial(quant_espcn, 2, 3, 4, 4), (1, 3, 16, 16), 0, False, name="espcn"),
    slow(partial(bnn_pynq, "tfc_1w2a"), DIGIT, 0, True, name="tfc_1w2a"),
    slow(partial(bnn_pynq, "sfc_1w2a"), DIGIT, 0, True, name="sfc_1w2a"),
    slow(partial(bnn_pynq, "lfc_1w1a"), DIGIT, 0, True, name="lfc_1w1a"),
    slow(partial(bnn_pynq, "cnv_1w1a"), SMALL, 0, True, name="cnv_1w1a"),
    slow(partial(bnn_pynq, "cnv_2w2a"), SMALL, 0, True, name="cnv_2w2a"),
    slow(partial(bnn_pynq, "resnet18_4w4a"), SMALL, FIRST_LAYER, False, name="resnet18_4w4a"),
    slow(
        partial(imagenet, quant_mobilenet_v1, "quant_mobilenet_v1_4b"),
        IMAGE,
        FIRST_LAYER,
        True,
        name="mobilenet_v1_4b",
    ),
    slow(
        partial(imagenet, quant_proxylessnas_mobile14, "quant_proxylessnas_mobile14_4b5b"),
        IMAGE,
        FIRST_LAYER,
        True,
        name="proxylessnas_4b5b",
    ),
]


@pytest.mark.parametrize(("make", "shape", "on_floats", "dynamo"), NETWORKS)
def test_brevitas_examples(
    make: Maker, shape: tuple[int, ...], on_floats: int, dynamo: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    path = tmp_path / "exported.onnx"
    exported(make(), shape, path, dynamo=dynamo)
    result = executes(onnx.load(path), tmp_path, "host")
    notes = [note for step in result.report.steps for note in step.fallback]
    assert len(notes) == on_floats
    assert all("no quantizer" in note for note in notes)
