from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mpqdeploy.core import Geometry, Site

SMALL = st.integers(1, 3)
PAIR = st.tuples(SMALL, SMALL)


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    groups = draw(SMALL)
    return Geometry(
        op="conv",
        in_channels=groups * draw(SMALL),
        out_channels=groups * draw(SMALL),
        in_size=draw(st.tuples(st.integers(7, 12), st.integers(7, 12))),
        kernel=draw(PAIR),
        stride=draw(PAIR),
        padding=draw(st.tuples(*[st.integers(0, 2)] * 4)),
        dilation=draw(PAIR),
        groups=groups,
        act_signed=draw(st.booleans()),
    )


@given(geometries())
def test_a_geometry_survives_json(geometry: Geometry) -> None:
    after = Geometry.from_json(json.loads(json.dumps(geometry.to_json())))
    assert after == geometry
    assert hash(after) == hash(geometry)


def test_an_unknown_key_is_refused() -> None:
    data = Geometry(op="linear", in_channels=2, out_channels=3).to_json()
    with pytest.raises(TypeError, match="bias"):
        Geometry.from_json({**data, "bias": True})


@settings(max_examples=60, deadline=None)
@given(geometries())
def test_sizes_are_those_of_torch(geometry: Geometry) -> None:
    layer = nn.Conv2d(
        geometry.in_channels,
        geometry.out_channels,
        geometry.kernel,
        geometry.stride,
        dilation=geometry.dilation,
        groups=geometry.groups,
        bias=False,
    )
    top, left, bottom, right = geometry.padding
    image = torch.zeros(1, geometry.in_channels, *geometry.in_size)
    result = layer(nn.functional.pad(image, (left, right, top, bottom)))
    assert geometry.out_size == tuple(result.shape[2:])
    assert geometry.weights == layer.weight.numel()
    assert geometry.macs == layer.weight[0].numel() * result.numel()


def test_a_linear_layer_is_a_convolution_of_one_pixel() -> None:
    geometry = Geometry(op="linear", in_channels=20, out_channels=10)
    assert geometry.out_size == (1, 1)
    assert Site(name="fc", geometry=geometry).macs == geometry.weights == 200


@pytest.mark.parametrize(
    ("channels", "groups", "expected"), [(8, 8, True), (8, 4, False), (1, 1, False)]
)
def test_depthwise_has_a_group_per_channel(channels: int, groups: int, expected: bool) -> None:
    geometry = Geometry(op="conv", in_channels=channels, out_channels=channels, groups=groups)
    assert geometry.depthwise is expected
