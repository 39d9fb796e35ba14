from __future__ import annotations

import numpy as np
import pytest
import torch

from mpqdeploy.nn.functional import Codes, binarize_weight, mix_acts, quantize_act, quantize_weight


def lsq_scale_gradient(x, scale, low, high):
    """d (scale * code) / d scale per element, as the LSQ paper writes it."""
    v = x / scale
    inside = (v > low) & (v < high)
    return np.where(inside, np.round(v) - v, np.clip(np.round(v), low, high))


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 15), (0, 255), (-2, 1), (-128, 127)])
def test_activation_codes_and_both_gradients(low, high):
    generator = torch.Generator().manual_seed(high)
    x = torch.randn(4, 3, 5, generator=generator, dtype=torch.float64) * 2
    scale = torch.tensor(2.5 / high, dtype=torch.float64, requires_grad=True)
    x.requires_grad_(True)
    upstream = torch.randn(x.shape, generator=generator, dtype=torch.float64)

    y = quantize_act(x, scale, Codes(low=low, high=high))
    (y * upstream).sum().backward()

    values, step, flow = x.detach().numpy(), scale.item(), upstream.numpy()
    np.testing.assert_array_equal(
        y.detach().numpy(), np.clip(np.round(values / step), low, high) * step
    )
    inside = (values > low * step) & (values < high * step)
    np.testing.assert_array_equal(x.grad.numpy(), flow * inside)
    expected = (flow * lsq_scale_gradient(values, step, low, high)).sum()
    assert scale.grad.item() == pytest.approx(expected, rel=1e-9)


def test_bipolar_activation_counts_zero_as_plus_one():
    x = torch.tensor([[-3.0, -0.1, 0.0, 0.2, 5.0]], requires_grad=True)
    scale = torch.tensor(0.5, requires_grad=True)
    y = quantize_act(x, scale, Codes(low=-1, high=1, bipolar=True))
    y.sum().backward()
    assert y.tolist() == [[-0.5, -0.5, 0.5, 0.5, 0.5]]
    assert x.grad.tolist() == [[0, 1, 1, 1, 0]]


def test_half_precision_is_computed_in_float32():
    x = torch.rand(64, 100, generator=torch.Generator().manual_seed(0)).bfloat16()
    results = []
    for values in (x, x.float()):
        scale = torch.tensor(1 / 255, requires_grad=True)
        y = quantize_act(values, scale, Codes(low=0, high=255))
        y.sum().backward()
        results.append((y, scale.grad))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


@pytest.mark.parametrize("high", [1, 7, 127])
def test_weight_codes_and_straight_through_gradient(high):
    weight = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(1))
    weight.requires_grad_(True)
    scale = torch.rand(6, 1, 1, 1, generator=torch.Generator().manual_seed(2)) / high
    upstream = torch.randn_like(weight)
    y = quantize_weight(weight, scale, high=high)
    (y * upstream).sum().backward()
    codes = np.clip(np.round(weight.detach().numpy() / scale.numpy()), -high, high)
    np.testing.assert_array_equal(y.detach().numpy(), codes * scale.numpy())
    torch.testing.assert_close(weight.grad, upstream, rtol=0, atol=0)


def test_binary_weights_stop_the_gradient_outside_one():
    weight = torch.tensor([[-1.5, -0.5, 0.0, 0.5, 1.5]], requires_grad=True)
    y = binarize_weight(weight, torch.tensor([[0.25]]))
    y.sum().backward()
    assert y.tolist() == [[-0.25, -0.25, 0.25, 0.25, 0.25]]
    assert weight.grad.tolist() == [[0, 1, 1, 1, 0]]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(3, 5, 7, 4), (2, 24, 40, 40)], ids=["small", "chunks"])
def test_a_mixture_is_the_sum_of_its_terms(shape, layout):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator, dtype=torch.float64) * 2
    x = x.to(memory_format=layout).requires_grad_(True)
    grids = [Codes(low=0, high=255), Codes(low=-2, high=1), Codes(low=-1, high=1, bipolar=True)]
    scales = torch.tensor([0.01, 1.3, 0.7], dtype=torch.float64, requires_grad=True)
    chances = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(shape, generator=generator, dtype=torch.float64)  # of either layout
    terms = sum(
        chance * quantize_act(x, scale, codes)
        for chance, scale, codes in zip(chances, scales, grids, strict=True)
    )
    mixture = mix_acts(x, scales, chances, grids)
    inputs = [x, scales, chances]
    torch.testing.assert_close(mixture, terms)
    torch.testing.assert_close(
        torch.autograd.grad((mixture * upstream).sum(), inputs),
        torch.autograd.grad((terms * upstream).sum(), inputs),
    )
