from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mpqdeploy.core import ConfigError, Policy, Precision
from mpqdeploy.core.files import write_json
from mpqdeploy.nn import build_float, task_of
from mpqdeploy.nn.layers import named_sites
from mpqdeploy.nn.quantizers import WeightStats, quantized_weight
from mpqdeploy.search.engine import Event, Note, OnEvent, Problem
from mpqdeploy.search.folder import SearchFolder
from mpqdeploy.search.sensitivity import (
    Curvatures,
    Sensitivity,
    SensitivitySettings,
    curvatures,
    scores,
)
from mpqdeploy.search.taps import tapped
from tests.search.problems import tiny_problem

SHORT = SensitivitySettings(images=16, probes=2)


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_float(tiny_problem().spec).eval()


def flat(value: float = 1.0) -> Curvatures:
    sites = dict.fromkeys(tiny_problem().candidates, value)
    return Curvatures(weights=sites, acts=sites)


def test_scores_are_the_weighted_squared_errors() -> None:
    problem, net = tiny_problem(), network()
    one = scores(net, problem, flat())["conv3"]
    wide, narrow = Precision.parse("8/8"), Precision.parse("4/8")
    site = dict(named_sites(net))["conv3"]
    stats = WeightStats(site.weight)
    errors = {
        bits: (quantized_weight(site.weight, bits, stats) - site.weight).square().sum().item()
        for bits in (8, 4)
    }
    only = Curvatures(weights=flat().weights, acts=flat(0.0).acts)
    found = scores(net, problem, only)["conv3"]
    assert found[wide] / found[narrow] == pytest.approx(errors[8] / errors[4], rel=1e-5)
    # Fewer bits on either side never cost less.
    for low, high in [("4/8", "8/8"), ("4/4", "4/8"), ("2/2", "4/4"), ("1/1", "1/2")]:
        assert one[Precision.parse(low)] < one[Precision.parse(high)]
    assert min(min(costs.values()) for costs in scores(net, problem, flat()).values()) == -1.0


def test_a_sensitive_site_keeps_its_bits(tmp_path: Path) -> None:
    """A site whose curvature dwarfs the others' gets all that it may have."""
    problem = tiny_problem(bops=0.7)

    class Raised(Sensitivity):
        def policies(
            self, problem: Problem, place: SearchFolder, on_event: OnEvent
        ) -> list[Policy]:
            raised = {**flat(1e-6).weights, "conv4": 1.0}
            content = {"weights": raised, "acts": raised}
            write_json(place.path / "curvatures.json", content)
            return super().policies(problem, place, on_event)

    policy = Raised(SHORT).search(problem, tmp_path).policy
    assert policy["conv4"] == Precision.parse("8/8")


def test_traces_are_kept_for_other_budgets(tmp_path: Path) -> None:
    events: list[Event] = []
    engine = Sensitivity(SHORT)
    engine.search(tiny_problem(bops=0.3), tmp_path, events.append)
    before = (tmp_path / "curvatures.json").read_bytes()
    assert sum(isinstance(event, Note) and "eigenvalues" in event.message for event in events) == 1
    tighter = tiny_problem(bops=0.1)
    result = engine.search(tighter, tmp_path, events.append)
    assert tighter.inside(result.policy)
    assert (tmp_path / "curvatures.json").read_bytes() == before
    assert sum(isinstance(event, Note) and "eigenvalues" in event.message for event in events) == 1


@pytest.mark.parametrize("curvature", ["hessian", "fisher"])
def test_every_site_has_a_positive_curvature(curvature: str) -> None:
    settings = SensitivitySettings(curvature=curvature, images=4, probes=2)  # type: ignore[arg-type]
    found = curvatures(network(), tiny_problem(), settings)
    assert set(found.weights) == set(found.acts) == set(tiny_problem().candidates)
    assert all(value > 0 for value in [*found.weights.values(), *found.acts.values()])


def test_taps_change_nothing_and_give_the_gradient_of_the_input() -> None:
    net = network()
    images = torch.rand(2, *tiny_problem().spec.image)
    plain = net(images)
    with tapped(net) as taps:
        outputs = net(images)
    assert torch.equal(plain, outputs)
    assert set(taps.zeros) == {name for name, _ in named_sites(net)}
    (first,) = taps.zeros["conv1"]
    loss = task_of(net).judge(outputs, torch.tensor([1, 2])).loss
    (along_zero,) = torch.autograd.grad(loss, [first])
    images.requires_grad_(True)
    loss = task_of(net).judge(net(images), torch.tensor([1, 2])).loss
    (along_image,) = torch.autograd.grad(loss, [images])
    assert torch.allclose(along_zero, along_image, atol=1e-7)
    assert torch.equal(net(images), plain)


@pytest.mark.parametrize("key", ["images", "probes"])
def test_settings_out_of_range_are_named(key: str) -> None:
    with pytest.raises(ConfigError, match=f"sensitivity_{key}"):
        SensitivitySettings(**{key: 0})
