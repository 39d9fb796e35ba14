from __future__ import annotations

import pytest
import torch
from torch import nn

from mpqdeploy.core import Precision
from mpqdeploy.nn.layers import SiteLinear, conv_site, fixed_layer
from mpqdeploy.nn.quantizers import WeightStats, quantized_weight
from mpqdeploy.nn.search_layer import SearchLayer
from mpqdeploy.nn.transfer import transfer

SIX = tuple(Precision.parse(text) for text in ("8/8", "4/8", "4/4", "2/2", "1/2", "1/1"))


def make(site, candidates=SIX, mode="joint", seed=0):
    layer = SearchLayer(site, candidates, mode)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for logits in layer.logits:
            logits.copy_(torch.randn(logits.shape, generator=generator))
    for act in layer.acts:
        act.set_scale_(2 / act.codes.high)
    return layer


def sites():
    torch.manual_seed(0)
    linear = SiteLinear(6, 5)
    signed = conv_site(4, 6, 3, act_signed=True)
    return [conv_site(4, 6, 3, stride=2), conv_site(4, 4, 3, groups=4), signed, linear]


def batch(site):
    generator = torch.Generator().manual_seed(1)
    if isinstance(site, SiteLinear):
        return torch.rand(3, 6, generator=generator) * 3
    x = torch.randn(2, 4, 7, 5, generator=generator) * 2
    return x if site.act_signed else x.relu()


def branch(layer, candidate, x):
    """One candidate's own output: its own weights, its own activations, its own convolution."""
    weight = quantized_weight(layer.weight, candidate.weight_bits, WeightStats(layer.weight))
    act = layer.acts[layer.act_bits.index(candidate.act_bits)].quantize(x)
    return layer._product(act, weight, layer.bias)


@pytest.mark.parametrize("site", sites(), ids=["strided", "depthwise", "signed", "linear"])
def test_grouped_convolutions_equal_the_sum_over_branches(site):
    layer, x = make(site).double(), batch(site).double()
    naive = sum(
        p * branch(layer, candidate, x)
        for p, candidate in zip(layer.probabilities(), layer.candidates, strict=True)
    )
    upstream = torch.randn(naive.shape, dtype=torch.float64)
    parameters = dict(layer.named_parameters())

    grads = []
    for output in (layer(x), naive):
        torch.testing.assert_close(output, naive, rtol=1e-12, atol=1e-12)
        grads.append(torch.autograd.grad((output * upstream).sum(), list(parameters.values())))
    for name, grouped, expected in zip(parameters, *grads, strict=True):
        torch.testing.assert_close(grouped, expected, rtol=1e-9, atol=1e-11, msg=name)


@pytest.mark.parametrize("mode", ["joint", "factorized"])
@pytest.mark.parametrize("site", sites()[2:], ids=["conv", "linear"])
def test_gradients_of_logits_match_finite_differences(site, mode):
    layer, x = make(site, mode=mode).double(), batch(site).double()
    loss = lambda: layer(x).square().mean()  # noqa: E731
    grads = torch.autograd.grad(loss(), list(layer.logits))
    step = 1e-6
    for logits, grad in zip(layer.logits, grads, strict=True):
        for index in range(len(logits)):
            with torch.no_grad():
                logits[index] += step
                above = loss()
                logits[index] -= 2 * step
                below = loss()
                logits[index] += step
            assert grad[index].item() == pytest.approx(
                ((above - below) / (2 * step)).item(), rel=1e-5, abs=1e-9
            )


@pytest.mark.parametrize("mode", ["joint", "factorized"])
@pytest.mark.parametrize("candidate", SIX, ids=str)
def test_one_hot_logits_give_the_fixed_layer(mode, candidate):
    for site in sites():
        layer, x = make(site, mode=mode), batch(site)
        chances = torch.full((len(SIX),), 1e-30)
        chances[SIX.index(candidate)] = 1
        layer.set_probabilities_(chances)
        assert layer.chosen() == candidate
        source = nn.ModuleDict({"site": layer})
        destination = nn.ModuleDict({"site": fixed_layer(site, candidate)})
        assert transfer(source, destination) == ()
        torch.testing.assert_close(destination["site"](x), layer(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("mode", ["joint", "factorized"])
def test_probabilities_are_a_distribution_over_the_candidates(mode):
    layer = make(sites()[0], mode=mode)
    p = layer.probabilities()
    assert p.shape == (6,)
    assert p.sum().item() == pytest.approx(1)


def test_factorized_probabilities_are_products_over_the_pairs_that_a_candidate_stands_for():
    """Of 4 x 4 pairs six are candidates; 8/4, say, can only be had as 8/8, and 1/8 as 4/8."""
    layer = make(sites()[0], mode="factorized")
    weight_p, act_p = layer.distributions()
    stands_for = {
        "8/8": ("8/8", "8/4", "8/2", "8/1"),
        "4/8": ("4/8", "2/8", "1/8"),
        "4/4": ("4/4", "4/2", "4/1", "2/4", "1/4"),
        "2/2": ("2/2", "2/1"),
        "1/2": ("1/2",),
        "1/1": ("1/1",),
    }
    expected = []
    for candidate in SIX:
        pairs = [Precision.parse(pair) for pair in stands_for[str(candidate)]]
        products = [
            weight_p[layer.weight_bits.index(pair.weight_bits)]
            * act_p[layer.act_bits.index(pair.act_bits)]
            for pair in pairs
        ]
        expected.append(sum(products))
    torch.testing.assert_close(layer.probabilities(), torch.stack(expected))


def test_a_mixture_that_is_no_candidate_chooses_the_one_that_covers_it():
    layer = make(sites()[0], mode="factorized")
    for pair, cover in (("1/8", "4/8"), ("2/4", "4/4"), ("8/1", "8/8"), ("2/2", "2/2")):
        wanted = Precision.parse(pair)
        with torch.no_grad():
            for logits, index in zip(
                layer.logits,
                (
                    layer.weight_bits.index(wanted.weight_bits),
                    layer.act_bits.index(wanted.act_bits),
                ),
                strict=True,
            ):
                logits.zero_()[index] = 9.0
        assert str(layer.chosen()) == cover
        assert layer.probabilities()[SIX.index(layer.chosen())].item() > 0.99


def test_without_a_cover_a_pair_stands_for_what_lacks_the_fewest_bits():
    narrow = tuple(Precision.parse(text) for text in ("8/2", "2/8", "4/4"))
    layer = make(sites()[0], narrow, mode="factorized")
    with torch.no_grad():
        for logits in layer.logits:
            logits.zero_()
        layer.logits[0][layer.weight_bits.index(8)] = 9.0
        layer.logits[1][layer.act_bits.index(8)] = 9.0
    assert str(layer.chosen()) == "8/2"  # 6 bits lacking, as for 2/8: the first of equals


def test_set_probabilities_is_exact_where_it_can_be():
    wanted = torch.tensor([0.1, 0.2, 0.3, 0.05, 0.15, 0.2])
    layer = make(sites()[0])
    layer.set_probabilities_(wanted)
    torch.testing.assert_close(layer.probabilities(), wanted)

    grid = [Precision(weight_bits=w, act_bits=a) for w in (4, 2) for a in (8, 2, 1)]
    product = torch.outer(torch.tensor([0.3, 0.7]), torch.tensor([0.2, 0.5, 0.3])).flatten()
    layer = make(sites()[0], grid, mode="factorized")
    layer.set_probabilities_(product)
    torch.testing.assert_close(layer.probabilities(), product)


def test_a_pinned_site_needs_no_logits():
    layer = make(sites()[0], SIX[:1])
    x = batch(sites()[0])
    torch.testing.assert_close(layer(x), branch(layer, SIX[0], x), rtol=0, atol=0)
    assert layer.probabilities().tolist() == [1.0]
