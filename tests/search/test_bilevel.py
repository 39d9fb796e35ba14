from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpqdeploy.core import Policy, Precision
from mpqdeploy.data import Loader
from mpqdeploy.nn import Mode, build_supernet
from mpqdeploy.nn.training import TrainingError
from mpqdeploy.search.advantage import axes
from mpqdeploy.search.barrier import Barrier
from mpqdeploy.search.bilevel import Bilevel
from mpqdeploy.search.cost import ExpectedCosts
from mpqdeploy.search.engine import Problem
from mpqdeploy.search.settings import BpNasSettings
from tests.search.problems import tiny_problem

MODES: tuple[Mode, ...] = ("joint", "factorized")


def make(mode: Mode, problem: Problem | None = None, *, reshape: bool = True) -> Bilevel:
    problem = problem or tiny_problem(bops=0.3)
    torch.manual_seed(0)
    net = build_supernet(problem.spec, problem.candidates, mode)
    costs = ExpectedCosts(problem.tables, problem.budgets, problem.candidates)
    return Bilevel(net, costs, Barrier(), BpNasSettings(mode=mode, theta_lr=0.1, reshape=reshape))


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    return next(iter(Loader(tiny_problem().dataset, "train", batch_size=16)))


def snapshot(bilevel: Bilevel) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    named = dict(bilevel.net.named_parameters())
    logits = [p.detach().clone() for n, p in named.items() if "logits" in n]
    weights = [p.detach().clone() for n, p in named.items() if "logits" not in n]
    return logits, weights


def equal(one: list[torch.Tensor], two: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("mode", MODES)
def test_each_level_moves_only_its_own_parameters(mode: Mode) -> None:
    bilevel = make(mode)
    logits, weights = snapshot(bilevel)
    bilevel.weight_step(*batch(), rate=0.01)
    after_logits, after_weights = snapshot(bilevel)
    assert equal(logits, after_logits)
    assert not equal(weights, after_weights)
    bilevel.theta_step(*batch(), weight=0.1, note=True)
    last_logits, last_weights = snapshot(bilevel)
    assert not equal(logits, last_logits)
    assert equal(after_weights, last_weights)


@pytest.mark.parametrize("mode", MODES)
def test_advantages_are_the_loss_gradient_along_the_simplex(mode: Mode) -> None:
    """A step of dt along the logits changes the loss by -sum p A dt, to first order."""
    bilevel = make(mode)
    layer = bilevel.layers["conv3"]
    with torch.no_grad():
        for logits in layer.logits:
            logits.copy_(torch.linspace(-0.5, 0.5, len(logits)))
    bilevel.theta_step(*batch(), weight=0.0, note=True)
    scores = bilevel.advantages.scores()["conv3"]
    assert set(scores) == set(layer.candidates)
    assert any(value != 0 for value in scores.values())
    vectors = [logits for one in bilevel.layers.values() for logits in one.logits]
    index = next(i for i, v in enumerate(vectors) if v is layer.logits[0])
    before = torch.softmax(torch.linspace(-0.5, 0.5, len(layer.logits[0])), 0)
    mean = float(before @ bilevel.advantages.sums[index])
    assert mean == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_settling_makes_every_site_one_hot(mode: Mode) -> None:
    bilevel = make(mode)
    with torch.no_grad():
        for number, layer in enumerate(bilevel.layers.values()):
            for logits in layer.logits:
                logits.copy_(0.3 * torch.cos(torch.arange(len(logits)) + float(number)))
    assert bilevel.settle(1.0) > 0
    assert bilevel.least_decided() > 0.99


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("room", [0.05, 0.3, 0.7, 0.95])
@pytest.mark.parametrize("sharpness", [0.3, 8.0])
def test_settling_ends_inside_even_from_one_hot_outside(
    mode: Mode, room: float, sharpness: float
) -> None:
    """Three budgets of four lie below where these logits point."""
    bilevel = make(mode, tiny_problem(bops=room))
    with torch.no_grad():
        for number, layer in enumerate(bilevel.layers.values()):
            for logits in layer.logits:
                ramp = torch.linspace(1.0, 0.0, len(logits))
                logits.copy_(sharpness * (ramp + 0.1 * torch.cos(ramp + number)))
    outside = not bilevel.costs.inside(bilevel.chosen())
    assert outside or room == 0.95
    assert (bilevel.settle(1.0) > 0) or not outside
    assert bilevel.costs.inside(bilevel.chosen())
    assert bilevel.least_decided() > 0.99


@pytest.mark.parametrize("mode", MODES)
def test_adopt_and_reopen_keep_the_argmax(mode: Mode) -> None:
    bilevel = make(mode)
    with torch.no_grad():
        for layer in bilevel.layers.values():
            for logits in layer.logits:
                logits.copy_(8.0 * torch.linspace(1, 0, len(logits)))
    wanted = bilevel.chosen().precisions | {"conv3": Precision.parse("2/2")}
    policy = type(bilevel.chosen())(precisions=wanted)
    bilevel.adopt(policy)
    assert bilevel.chosen() == policy
    decided = bilevel.least_decided()
    bilevel.reopen(0.7)
    assert bilevel.chosen() == policy
    assert bilevel.least_decided() == pytest.approx(min(0.7, decided), abs=1e-3)


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), spread=st.sampled_from([0.0, 0.1, 3.0, 30.0]))
def test_any_policy_can_be_adopted(mode: Mode, seed: int, spread: float) -> None:
    """Also where the candidates are not all pairs of their widths, and the axes peak at no one."""
    pairs = tuple(Precision.parse(text) for text in ("8/8", "4/8", "4/4", "2/2", "1/2", "1/1"))
    problem = tiny_problem()
    problem = replace(problem, candidates=dict.fromkeys(problem.candidates, pairs))
    bilevel = make(mode, problem)
    numbers = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in bilevel.layers.values():
            for logits in layer.logits:
                logits.copy_(spread * torch.randn(len(logits), generator=numbers))
    picked = torch.randint(len(pairs), (len(bilevel.layers),), generator=numbers).tolist()
    policy = Policy(precisions={s: pairs[i] for s, i in zip(bilevel.layers, picked, strict=True)})
    bilevel.adopt(policy)
    assert bilevel.chosen() == policy
    for site, layer in bilevel.layers.items():
        assert [int(logits.argmax()) for logits in layer.logits] == list(axes(layer, policy[site]))


def test_scale_clip_follows_every_weight_step_and_spares_pinned_sites() -> None:
    bilevel = make("joint")
    with torch.no_grad():
        for layer in bilevel.layers.values():
            layer.weight[(0,) * layer.weight.ndim] = 10.0
    bilevel.weight_step(*batch(), rate=1e-6)
    assert float(bilevel.layers["conv3"].weight.abs().max()) < 5.0
    assert float(bilevel.layers["conv1"].weight.abs().max()) > 9.0


def test_a_loss_that_is_not_finite_stops_before_the_step() -> None:
    bilevel = make("joint")
    _, weights = snapshot(bilevel)
    images, labels = batch()
    with pytest.raises(TrainingError, match="not finite"):
        bilevel.weight_step(images * float("nan"), labels, rate=0.1)
    assert equal(weights, snapshot(bilevel)[1])
