from __future__ import annotations

import numpy as np
import pytest
import torch
from brevitas.nn import QuantConv2d, QuantIdentity, QuantLinear
from torch import nn

from mpqdeploy.nn.quantizers import (
    ActQuant,
    WeightQuant,
    WeightStats,
    act_quantizer,
    quantized_weight,
    weight_quantizer,
    weight_scale,
)
from tests.nn.executor import executed, exported


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_weight_quantizer_takes_every_width_to_qonnx(bits, tmp_path):
    torch.manual_seed(bits)
    layer = QuantConv2d(
        3, 4, 3, bias=False, weight_quant=weight_quantizer(bits), return_quant_tensor=False
    ).eval()
    model = exported(layer, torch.randn(1, 3, 5, 5), tmp_path)
    (node,) = (n for n in model.graph.node if "Quant" in n.op_type)
    assert node.op_type == ("BipolarQuant" if bits == 1 else "Quant")
    scale = model.get_initializer(node.input[1])
    codes = layer.quant_weight().value.detach().numpy() / scale
    highest = max(2 ** (bits - 1) - 1, 1)
    assert scale.size == 4
    np.testing.assert_allclose(codes, np.round(codes), atol=1e-4)
    assert np.abs(codes).max() == pytest.approx(highest, abs=1e-4)
    # A picture with one bright pixel reads weights out of qonnx's executor, exactly.
    for channel in range(3):
        x = torch.zeros(1, 3, 5, 5)
        x[0, channel, 2, 2] = 1
        with torch.no_grad():
            expected = layer(x).numpy()
        np.testing.assert_array_equal(executed(model, x), expected)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [1, 4])
def test_activation_quantizer_takes_every_width_to_qonnx(bits, signed, tmp_path):
    net = nn.Sequential(QuantIdentity(act_quant=act_quantizer(bits, signed=signed))).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(0.71)
    x = torch.linspace(-7, 7, 4001).reshape(1, -1)
    model = exported(net, x, tmp_path)
    (node,) = model.graph.node
    assert node.op_type == ("BipolarQuant" if bits == 1 and signed else "Quant")
    with torch.no_grad():
        y = net(x)
    np.testing.assert_array_equal(executed(model, x), y.numpy())
    assert len(y.unique()) == 2**bits


def test_a_network_can_be_exported_twice_and_still_runs(tmp_path):
    net = nn.Sequential(QuantIdentity(act_quant=act_quantizer(1, signed=False))).eval()
    x = torch.rand(1, 32) * 6
    with torch.no_grad():
        before = net(x)
        for _ in range(2):
            np.testing.assert_array_equal(executed(exported(net, x, tmp_path), x), before.numpy())
        torch.testing.assert_close(net(x), before, rtol=0, atol=0)


def test_linear_weights_have_a_scale_per_output():
    layer = QuantLinear(5, 3, bias=True, weight_quant=weight_quantizer(4))
    assert layer.weight_quant.scale().shape == (3, 1)


def test_one_bit_scale_is_the_mean_magnitude_without_gradient():
    weight = torch.randn(4, 2, 3, 3, requires_grad=True)
    value, scale, _, _ = WeightQuant(1)(weight)
    torch.testing.assert_close(scale.flatten(), weight.abs().mean((1, 2, 3)))
    assert not scale.requires_grad
    torch.testing.assert_close(value, scale * weight.sign())


def test_wide_weights_are_not_clipped():
    weight = torch.randn(4, 64, generator=torch.Generator().manual_seed(3))
    stats = WeightStats(weight)
    value = quantized_weight(weight, 8, stats)
    assert (value - weight).abs().max() <= weight_scale(stats, 8).max() / 2 * 1.0001


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_narrow_clip_factor_is_near_the_least_squares_one(bits):
    weight = torch.randn(1, 50000, generator=torch.Generator().manual_seed(4))
    stats = WeightStats(weight)
    highest = 2 ** (bits - 1) - 1

    def error(scale):
        return (weight - (weight / scale).round().clamp(-highest, highest) * scale).square().mean()

    best = min(error(k * stats.mean / highest) for k in torch.arange(1, 5, 0.05))
    assert error(weight_scale(stats, bits)) < 1.1 * best


def test_a_channel_of_zeros_stays_zero():
    weight = torch.zeros(2, 3, 3, 3)
    for bits in (1, 2, 8):
        value = quantized_weight(weight, bits, WeightStats(weight))
        assert value.isfinite().all()
        assert value.abs().max() <= 1e-8


def test_a_scale_survives_any_step_of_an_optimizer():
    quantizer = ActQuant(8, signed=False)
    optimizer = torch.optim.SGD(quantizer.parameters(), lr=1.0)
    x = torch.rand(8, 8, generator=torch.Generator().manual_seed(0)) * 6
    (quantizer.quantize(x).sum() * 0.005).backward()  # by itself 1000 scales wide
    before = quantizer.scale.item()
    optimizer.step()
    assert 0 < quantizer.scale.item() < before
    assert quantizer.quantize(x).unique().numel() > 1


def test_loading_a_state_dict_keeps_the_parameters_an_optimizer_holds():
    layer = QuantIdentity(act_quant=act_quantizer(4, signed=False))
    (parameter,) = layer.parameters()
    state = {name: value + 1 for name, value in layer.state_dict().items()}
    layer.load_state_dict(state)
    assert next(layer.parameters()) is parameter
    assert parameter.item() == pytest.approx(np.log(4 / 15) + 1)
