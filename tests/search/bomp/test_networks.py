"""A family as a space: every point a network, every network one point."""

from __future__ import annotations

import numpy as np
import pytest

from mpqdeploy.core import ConfigError, Precision, parse_precisions
from mpqdeploy.nn import ModelSpec, build_quantized
from mpqdeploy.search.bomp.networks import Choices, Network, Networks

TARGETS = parse_precisions(("8/8", "4/8", "4/4", "2/2", "1/2", "1/1"))
DIGITS = ModelSpec(name="mobile_digits", num_classes=10, image=(1, 8, 8))
CIFAR = ModelSpec(name="mobile_cifar", num_classes=10, image=(3, 32, 32))
SMALL = Choices(kernels=(3,), widths=(1.0,), expansions=(1, 2), repeats=(0, 1), head_widths=(1.0,))


def structure(network: Network) -> tuple[object, ...]:
    """What is computed, whatever the layers are called: equal for equal networks."""
    return tuple((site.geometry, network.policy[site.name]) for site in network.sites)


def test_every_point_of_a_small_space_is_another_network() -> None:
    networks = Networks(DIGITS, parse_precisions(("8/8", "4/4")), SMALL)
    points = list(networks.space.points())
    assert len(points) == networks.space.count()
    assert len({structure(networks.network(point)) for point in points}) == len(points)


def test_stages_at_one_image_size_share_no_width() -> None:
    """Else one of them, left out, would be the other one under another name."""
    choices = Choices(
        kernels=(3,),
        widths=(0.5, 0.75, 1.0, 1.5),
        expansions=(6,),
        repeats=(0, 1),
        head_widths=(1.0,),
    )
    networks = Networks(CIFAR, parse_precisions(("8/8",)), choices)
    space = networks.space
    widths = {p.name: p.values for p in space.parameters if p.name.endswith(".width")}
    # 24 channels are 1.5 of stage 0 and 1.0 of stage 1: the latter's.
    assert widths["stage0.width"] == (0.5, 1.0)
    assert widths["stage1.width"] == (1.0, 1.5)
    rng = np.random.default_rng(0)
    points = {space.key(point): point for point in (space.sample(rng) for _ in range(25))}
    assert len({structure(networks.network(point)) for point in points.values()}) == len(points)


def test_a_stage_left_out_has_no_parameters() -> None:
    networks = Networks(DIGITS, TARGETS)
    rng = np.random.default_rng(0)
    point = networks.space.complete({"stage0.repeats": 0}, rng)
    assert [name for name in point if name.startswith("stage0.")] == ["stage0.repeats"]
    network = networks.network(point)
    assert not [site.name for site in network.sites if site.name.startswith("stages.0.")]


def test_only_the_targets_pairs_occur_and_all_of_them() -> None:
    networks = Networks(DIGITS, TARGETS)
    rng = np.random.default_rng(1)
    seen: set[Precision] = set()
    for _ in range(25):
        point = networks.space.sample(rng)
        assert networks.space.validate(point) == point
        seen.update(networks.network(point).policy.precisions.values())
    assert seen == set(TARGETS)


def test_a_stage_has_one_precision_and_the_ends_are_at_8_8() -> None:
    networks = Networks(DIGITS, TARGETS)
    point = networks.space.complete(
        {
            "stage1.repeats": 2,
            "stage1.weight_bits": 1,
            "stage1.act_bits_1_2": 2,
            "stage2.weight_bits": 2,
            "head.weight_bits": 4,
            "head.act_bits_4_8": 8,
        },
        np.random.default_rng(0),
    )
    policy = networks.network(point).policy
    by_stage = {
        part: {str(p) for name, p in policy.precisions.items() if name.startswith(part)}
        for part in ("stem", "stages.1", "stages.2", "head", "classifier")
    }
    assert by_stage == {
        "stem": {"8/8"},
        "stages.1": {"1/2"},
        "stages.2": {"2/2"},
        "head": {"4/8"},
        "classifier": {"8/8"},
    }
    assert policy.architecture["repeats"][1] == 2


def test_the_options_of_a_point_build_its_network() -> None:
    networks = Networks(DIGITS, TARGETS)
    network = networks.network(networks.space.sample(np.random.default_rng(3)))
    build_quantized(network.spec, network.policy)
    weights = sum(site.weights * network.policy[site.name].weight_bits for site in network.sites)
    assert network.counted["bytes"] == weights / 8
    assert network.counted["bops"] > 0


def test_where_every_pair_exists_one_parameter_says_the_activation_bits() -> None:
    space = Networks(DIGITS, parse_precisions(("8/8", "8/4", "4/8", "4/4"))).space
    assert space["head.act_bits_4_8"].when is not None
    assert space["head.act_bits_4_8"].when.values == (4, 8)
    assert len([p for p in space.parameters if p.name.startswith("head.")]) == 3


@pytest.mark.parametrize(
    ("spec", "choices", "message"),
    [
        (
            ModelSpec(name="resnet20", num_classes=10, image=(3, 32, 32)),
            Choices(),
            "'resnet20' is one network .*mobile_cifar or mobile_digits",
        ),
        (DIGITS, Choices(repeats=(0,)), "stage 1 of 'mobile_digits' needs one.*1 or more"),
        (CIFAR, Choices(widths=(0.1,)), r"widths: \[0.1\] leave stage 1 no width"),
    ],
)
def test_what_is_no_space_is_refused(spec: ModelSpec, choices: Choices, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _ = Networks(spec, TARGETS, choices).space
