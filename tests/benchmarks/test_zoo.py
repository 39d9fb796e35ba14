"""Which layers of the compared networks leave 8/8."""

from __future__ import annotations

import pytest
from networks import zoo

from mpqdeploy.core import ConfigError, Precision

WIDE = Precision.parse("8/8")
NARROW = Precision.parse("2/4")


@pytest.mark.parametrize("name", ["resnet18", "resnet20"])
def test_the_interior_is_all_but_the_first_and_the_last_layer(name: str) -> None:
    sites = zoo.network(name).sites()
    policy = zoo.policy(sites, "2/4")
    first, *interior, last = [policy[site.name] for site in sites]
    assert first == last == WIDE
    assert set(interior) == {NARROW}
    assert (NARROW.weight_bits, NARROW.act_bits) == (2, 4)


def test_only_pointwise_convolutions_of_mobilenetv2_leave_8_8() -> None:
    sites = zoo.network("mobilenetv2").sites()
    policy = zoo.policy(sites, "2/4")
    narrow = [site for site in sites if policy[site.name] == NARROW]
    assert all(site.geometry.kernel == (1, 1) and not site.geometry.depthwise for site in narrow)
    assert {site.geometry.op for site in narrow} == {"conv"}
    assert len(narrow) == 34  # 16 expansions, 17 projections, and the head


@pytest.mark.parametrize(
    ("name", "millions"), [("resnet18", 1814), ("resnet20", 41), ("mobilenetv2", 301)]
)
def test_networks_are_the_usual_ones(name: str, millions: int) -> None:
    assert round(sum(site.macs for site in zoo.network(name).sites()) / 1e6) == millions


def test_images_repeat() -> None:
    network = zoo.network("resnet20")
    assert (zoo.images(network) == zoo.images(network)).all()
    assert zoo.images(network, 1).shape == (1, 3, 32, 32)


def test_an_unknown_network_is_named() -> None:
    with pytest.raises(ConfigError, match="lenet"):
        zoo.network("lenet")
