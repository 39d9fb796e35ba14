from __future__ import annotations

import numpy as np
import torch

from mpqdeploy.core import Policy, Precision
from mpqdeploy.nn import (
    ModelSpec,
    build_float,
    build_quantized,
    build_supernet,
    scale_clip_,
    sites,
)

SPEC = ModelSpec(name="digits_cnn", num_classes=10, image=(1, 8, 8))
FOUR = Precision.parse("4/4")


def test_every_form_is_clipped_to_k_times_the_mean():
    found = sites(SPEC)
    forms = [
        build_float(SPEC),
        build_supernet(SPEC, {s.name: [FOUR] for s in found}),
        build_quantized(SPEC, Policy.uniform(found, FOUR)),
    ]
    for net in forms:
        before = {s.name: net.get_submodule(s.name).weight.detach().numpy().copy() for s in found}
        bias = net.linear.bias.detach().clone()
        scale_clip_(net, 1.5, skip=["conv1"])
        for name, weight in before.items():
            bound = np.inf if name == "conv1" else 1.5 * np.abs(weight).mean()
            np.testing.assert_allclose(
                net.get_submodule(name).weight.detach().numpy(),
                np.clip(weight, -bound, bound),
                rtol=1e-6,
            )
        torch.testing.assert_close(net.linear.bias.detach(), bias)


def test_uniform_weights_are_a_fixed_point_of_k_two():
    net = build_float(SPEC)
    with torch.no_grad():
        count = net.conv3.weight.numel()
        net.conv3.weight.copy_(torch.linspace(-1, 1, count).reshape(net.conv3.weight.shape))
    before = net.conv3.weight.detach().clone()
    for _ in range(20):
        scale_clip_(net)
    torch.testing.assert_close(net.conv3.weight.detach(), before, rtol=0, atol=2e-3)
