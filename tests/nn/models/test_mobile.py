"""The families: every option changes the network as it says; what cannot be built is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpqdeploy.core import ConfigError, Policy, Precision
from mpqdeploy.nn import ModelSpec, build_float, build_quantized, calibrate, sites
from mpqdeploy.nn.models.mobile import MobileDigits
from tests.nn.models.test_export import check

EIGHT = Precision(weight_bits=8, act_bits=8)


def digits(**options: Any) -> ModelSpec:
    return ModelSpec(name="mobile_digits", num_classes=10, image=(1, 8, 8), options=options)


def test_defaults_are_the_familys_table() -> None:
    found = {site.name: site.geometry for site in sites(digits())}
    assert found["stem.0.0"].out_channels == 16
    assert found["stages.1.0.conv.1.0"].stride == (2, 2)
    assert found["stages.1.1.conv.1.0"].stride == (1, 1)
    assert found["stages.2.1.conv.2"].out_channels == 40
    assert found["head.0"].out_channels == 96
    # Two halvings of 8x8.
    assert found["head.0"].in_size == (2, 2)


def test_cifar_is_mobilenetv2_on_small_images() -> None:
    """The same layers as `mobilenetv2` has there, but for the order of its stages' strides."""
    spec = ModelSpec(name="mobile_cifar", num_classes=10, image=(3, 32, 32))
    ours = sites(spec)
    theirs = sites(ModelSpec(name="mobilenetv2", num_classes=10, image=(3, 32, 32)))
    assert [s.geometry for s in ours] == [s.geometry for s in theirs]
    assert sum(s.weights for s in ours) == sum(s.weights for s in theirs)


def test_each_option_shapes_its_stage() -> None:
    spec = digits(
        kernels=[3, 5, 7],
        widths=[1.0, 2.0, 0.5],
        expansions=[1, 2, 4],
        repeats=[0, 1, 3],
        head_width=0.5,
    )
    found = {site.name: site.geometry for site in sites(spec)}
    assert not [name for name in found if name.startswith("stages.0.")]
    first, last = found["stages.1.0.conv.1.0"], found["stages.2.2.conv.1.0"]
    assert (first.kernel, first.in_channels) == ((5, 5), 2 * 16)
    assert (last.kernel, last.in_channels) == ((7, 7), 4 * 24)
    assert found["stages.1.0.conv.2"].out_channels == 48
    assert found["head.0"].out_channels == 48


def test_an_expansion_of_one_has_no_expanding_layer_and_reads_the_signed_stream() -> None:
    found = {s.name: s.geometry for s in sites(digits(expansions=[1, 1, 3]))}
    assert "stages.1.0.conv.1.0" not in found  # its place is taken by the projection
    assert found["stages.1.0.conv.0.0"].depthwise
    assert found["stages.1.0.conv.0.0"].act_signed
    assert not found["stages.0.0.conv.0.0"].act_signed  # behind the stem's ReLU


@given(
    kernels=st.lists(st.sampled_from([1, 3, 5, 7]), min_size=3, max_size=3),
    widths=st.lists(st.sampled_from([0.25, 0.5, 1.0, 1.5]), min_size=3, max_size=3),
    expansions=st.lists(st.integers(1, 4), min_size=3, max_size=3),
    repeats=st.tuples(st.integers(0, 2), st.integers(1, 2), st.integers(1, 2)),
)
@settings(max_examples=15, deadline=None)
def test_every_network_of_the_family_gives_logits(
    kernels: list[int], widths: list[float], expansions: list[int], repeats: tuple[int, ...]
) -> None:
    spec = digits(kernels=kernels, widths=widths, expansions=expansions, repeats=repeats)
    net = build_quantized(spec, Policy.uniform(sites(spec), EIGHT))
    images = torch.rand(2, 1, 8, 8)
    calibrate(net, [images])
    assert net(images).shape == (2, 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernels": [3, 3]}, r"kernels: \[3, 3\] is not a list of 3 entries.*3 stages"),
        ({"kernels": 3}, "kernels: 3 is not a list of 3"),
        ({"kernels": [3, 4, 3]}, "kernels: 4 for stage 1 .*Allowed: 1, 3, 5, 7"),
        ({"kernels": [3, 9, 3]}, "kernels: 9 for stage 1"),
        ({"kernels": []}, r"kernels: \[\] is not a list"),
        ({"widths": [1, 0, 1]}, "widths: 0 for stage 1 .*above 0"),
        ({"widths": [1, "wide", 1]}, "widths: 'wide' for stage 1"),
        ({"expansions": [1, 1, 0]}, "expansions: 0 for stage 2 .*from 1"),
        ({"expansions": [1, 1, True]}, "expansions: True for stage 2"),
        ({"repeats": [0, 0, 1]}, "repeats: 0 for stage 1 .*from 1"),
        ({"repeats": [1.5, 1, 1]}, "repeats: 1.5 for stage 0 .*from 0"),
        ({"head_width": 0}, "head_width: 0 .*above 0"),
        ({"depth": 2}, "no option 'depth'.*kernels, widths, expansions, repeats, head_width"),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_float(digits(**options))


def test_a_stage_may_go_only_where_it_does_not_halve_the_image() -> None:
    assert [stage.fewest for stage in MobileDigits.family.stages] == [0, 1, 1]


@pytest.mark.slow
def test_mobile_digits_in_qonnxs_executor(tmp_path) -> None:
    check(digits(kernels=[3, 5, 7], expansions=[1, 1, 2], repeats=[1, 2, 1]), tmp_path)
