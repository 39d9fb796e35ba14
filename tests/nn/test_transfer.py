from __future__ import annotations

import torch

from mpqdeploy.core import Policy, Precision
from mpqdeploy.nn import ModelSpec, build_float, build_quantized, build_supernet, sites, transfer
from mpqdeploy.nn.transfer import act_quantizers, float_state
from tests.nn.executor import randomise_batchnorm

SPEC = ModelSpec(name="digits_cnn", num_classes=10, image=(1, 8, 8), options={"width": 8})
WIDE, NARROW = Precision.parse("8/8"), Precision.parse("2/4")


def supernet():
    found = sites(SPEC)
    net = build_supernet(SPEC, {s.name: [s.pinned] if s.pinned else [WIDE, NARROW] for s in found})
    randomise_batchnorm(net)
    for index, quantizer in enumerate(act_quantizers(net).values()):
        quantizer.set_scale_(0.01 * (index + 1))
    return net


def test_float_weights_go_everywhere_and_scales_are_asked_for():
    source = build_float(SPEC)
    randomise_batchnorm(source)
    for destination in (supernet(), build_quantized(SPEC, Policy.uniform(sites(SPEC), WIDE))):
        missing = transfer(source, destination)
        assert set(missing) == set(act_quantizers(destination))
        for name, value in float_state(destination).items():
            torch.testing.assert_close(value, source.state_dict()[name], rtol=0, atol=0)


def test_scales_of_the_chosen_width_come_from_the_supernet():
    source = supernet()
    policy = Policy.uniform(sites(SPEC), NARROW)
    destination = build_quantized(SPEC, policy)
    assert transfer(source, destination) == ()
    known = act_quantizers(source)
    for (name, bits), quantizer in act_quantizers(destination).items():
        assert quantizer.scale.item() == known[name, bits].scale.item()
    assert ("stream", 8) in act_quantizers(destination)


def test_a_width_that_the_source_lacks_is_reported():
    source = build_quantized(SPEC, Policy.uniform(sites(SPEC), WIDE))
    destination = build_quantized(SPEC, Policy.uniform(sites(SPEC), NARROW))
    missing = transfer(source, destination)
    assert set(missing) == {(f"conv{i}", 4) for i in (2, 3, 4, 5)}


def test_back_to_float():
    source, destination = supernet(), build_float(SPEC)
    assert transfer(source, destination) == ()
    torch.testing.assert_close(
        destination.state_dict()["conv3.weight"], source.state_dict()["conv3.weight"]
    )
