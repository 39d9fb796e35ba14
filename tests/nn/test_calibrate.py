from __future__ import annotations

import pytest
import torch

from mpqdeploy.core import DataError, Policy, Precision
from mpqdeploy.nn import ModelSpec, build_quantized, calibrate, sites
from mpqdeploy.nn.transfer import act_quantizers

SPEC = ModelSpec(name="digits_cnn", num_classes=10, image=(1, 8, 8), options={"width": 8})


def network(text="4/4"):
    torch.manual_seed(0)
    return build_quantized(SPEC, Policy.uniform(sites(SPEC), Precision.parse(text)))


def batches():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(16, 1, 8, 8, generator=generator) * 3 for _ in range(2)]


def inputs_of(net, name):
    """What reaches the site `name`, with the activations before it in float."""
    seen = []
    for quantizer in act_quantizers(net).values():
        quantizer.observer = lambda _: None
    hook = net.get_submodule(name).register_forward_hook(
        lambda module, args, output: seen.append(args[0])
    )
    with torch.no_grad():
        for images in batches():
            net.eval()(images)
    hook.remove()
    for quantizer in act_quantizers(net).values():
        quantizer.observer = None
    return torch.cat(seen)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_narrow_scales_are_near_the_least_squares_ones(bits):
    net = network(f"4/{bits}")
    calibrate(net, batches())
    x = inputs_of(net, "conv3")

    def error(scale):
        return ((x / scale).round().clamp(0, 2**bits - 1) * scale - x).square().mean()

    best = min(error(x.max() / (2**bits - 1) * f) for f in torch.linspace(0.02, 1, 300))
    assert error(act_quantizers(net)["conv3", bits].scale.detach()) < 1.02 * best
    assert all(quantizer.observer is None for quantizer in act_quantizers(net).values())


def test_eight_bits_cover_the_whole_range():
    net = network("8/8")
    calibrate(net, batches())
    x = inputs_of(net, "conv3")
    assert act_quantizers(net)["conv3", 8].scale.item() == pytest.approx(x.max().item() / 255)


def test_eight_bits_hardly_change_the_network():
    net = network("8/8").eval()
    calibrate(net, batches())
    x = batches()[0]
    outputs = []
    for observer in (None, lambda _: None):  # an observed quantizer passes its input on
        for quantizer in act_quantizers(net).values():
            quantizer.observer = observer
        with torch.no_grad():
            outputs.append(net(x))
    error = (outputs[0] - outputs[1]).norm() / outputs[1].norm()
    assert 0 < error < 0.03


def test_only_the_named_quantizers_change():
    net = network()
    calibrate(net, batches(), only=[("conv2", 4)])
    changed = {
        key
        for key, q in act_quantizers(net).items()
        if q.scale.item() != pytest.approx(4.0 / q.codes.high)
    }
    assert changed == {("conv2", 4)}


def test_training_mode_and_batchnorm_are_left_as_they_were():
    net = network().train()
    before = net.bn1.running_mean.clone()
    calibrate(net, batches())
    assert net.training
    torch.testing.assert_close(net.bn1.running_mean, before, rtol=0, atol=0)


def test_a_dead_activation_gets_a_usable_scale():
    net = network()
    with torch.no_grad():
        net.bn1.bias.fill_(-1e9)
    calibrate(net, batches())
    assert net.eval()(batches()[0]).isfinite().all()


def test_no_data_is_an_error():
    with pytest.raises(DataError, match="conv1"):
        calibrate(network(), [])
