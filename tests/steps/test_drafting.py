"""A draft takes as long as the trained network, because nothing in it is special."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from mpqdeploy.core import Policy, Precision
from mpqdeploy.export.qonnx import export_qonnx
from mpqdeploy.nn import ModelSpec, sites
from mpqdeploy.nn.transfer import act_quantizers
from mpqdeploy.steps.drafting import Draft
from mpqdeploy.targets.passes.integerize import integerize
from mpqdeploy.targets.passes.normalize import normalize
from mpqdeploy.targets.target import load_target

SPEC = ModelSpec(name="resnet20", num_classes=10, image=(3, 8, 8))
SPLIT = ModelSpec(name="resnet18", num_classes=10, image=(3, 16, 16), options={"width": 4})
"""Its stage 2 begins with two readers of one stream."""


def draft(spec: ModelSpec = SPEC, precision: str = "8/8") -> Draft:
    policy = Policy.uniform(sites(spec), Precision.parse(precision))
    count = 4 * math.prod(spec.image)
    images = np.linspace(0, 1, count, dtype=np.float32).reshape(4, *spec.image)
    target = load_target("host")
    return Draft(spec=spec, policy=policy, images=images, seed=0, target=target, store=None)


def test_no_scale_is_another_and_no_batchnorm_is_trivial() -> None:
    net = draft().network()
    scales = [float(quantizer.scale) for quantizer in act_quantizers(net).values()]
    assert len(set(scales)) == len(scales)
    norms = [module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms
    for norm in norms:
        for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            assert values is not None
            assert not any(float(value) in (0.0, 1.0) for value in values)


def test_readers_of_one_tensor_are_stored_one_by_one(tmp_path: Path) -> None:
    """The block's two readers of the image: equal scales would make them one stored tensor, which
    a trained network does not have."""
    file = tmp_path / "draft.onnx"
    export_qonnx(draft(SPLIT, "4/4").network(), SPLIT.image, file)
    program = integerize(normalize(file))
    block = next(step for step in program.steps if step.name == "layer1.1.conv2")
    assert [output.tensor for output in block.outputs] == [
        "layer2.0.conv1.input_quant",
        "layer2.0.downsample.0.input_quant",
    ]


def test_a_draft_is_the_same_every_time() -> None:
    one, two = (draft().network().state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)
