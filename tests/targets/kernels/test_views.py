"""Loads through views, functions and products in the epilogue, on every instruction-set level."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpqdeploy.targets import views
from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.elementwise import Elementwise
from mpqdeploy.targets.layout import Layout
from mpqdeploy.targets.program import (
    Affine,
    Apply,
    Expr,
    Grid,
    Load,
    Output,
    Product,
    Step,
    Sum,
    Tensor,
)
from mpqdeploy.targets.views import Axis, Extents, Reindex, Resample, View, change_nothing
from tests.targets.kernels.harness import Case, check
from tests.targets.kernels.levels import require
from tests.targets.kernels.steps import CHANNELS, layouts_of, requantized, tensors_on

FUNCTIONS = ("sigmoid", "tanh", "erf", "exp")


@st.composite
def axes(draw: Any, extent: int) -> Axis:
    return Axis(
        step=draw(st.sampled_from((1, 1, 2, 0, -1))),
        offset=draw(st.integers(-2, extent)),
        divide=draw(st.sampled_from((1, 1, 2, 3))),
        exact=draw(st.booleans()),
    )


@st.composite
def resamples(draw: Any, source: Extents) -> View:
    channels = draw(st.one_of(st.just(Axis()), axes(source[2])))
    kept = source[2] if channels == Axis() else draw(st.sampled_from(CHANNELS))
    return Resample(
        shape=(draw(st.integers(1, 4)), draw(st.integers(1, 7)), kept),
        source=source,
        rows=draw(axes(source[0])),
        columns=draw(axes(source[1])),
        channels=channels,
    )


@st.composite
def reindexes(draw: Any, source: Extents) -> View:
    """The source, its axes split in two where they are even, in another order."""
    height, width, channels = source
    extents: list[int] = []
    for extent in (channels, height, width):
        extents += [2, extent // 2] if extent % 2 == 0 else [extent]
    order = draw(st.permutations(range(len(extents))))
    count = math.prod(source)
    rows = draw(st.sampled_from([n for n in range(1, 9) if count % n == 0]))
    columns = draw(st.sampled_from([n for n in range(1, 9) if count // rows % n == 0]))
    return Reindex(
        shape=(rows, columns, count // rows // columns),
        source=source,
        extents=tuple(extents),
        order=tuple(order),
    )


@st.composite
def moved(draw: Any) -> Case:
    """A tensor of codes or floats through one or two views, and perhaps a function of it."""
    source: Extents = (
        draw(st.integers(1, 4)),
        draw(st.integers(1, 6)),
        draw(st.sampled_from(CHANNELS)),
    )
    batch = draw(st.integers(1, 2))
    plain = Tensor(name="source", shape=(batch, *source))
    tensor = draw(st.one_of(tensors_on("source", plain.shape), st.just(plain)))
    inner = draw(st.one_of(resamples(source), reindexes(source)))
    views = [inner]
    if draw(st.booleans()):
        views = [draw(st.one_of(resamples(inner.shape), reindexes(inner.shape))), inner]
    value: Expr = Load(tensor="source", views=tuple(views))
    kind = draw(st.sampled_from(("plain", "function", "product")))
    if kind == "function":
        small = Apply(x=value, function=draw(st.sampled_from(FUNCTIONS)))
        value = small if tensor.grid is None else Sum(x=value, y=value)
    elif kind == "product":
        value = Product(x=value, y=value)
    shape = (batch, *views[0].shape)
    out = draw(st.one_of(tensors_on("out", shape), st.just(Tensor(name="out", shape=shape))))
    step = Step(
        name="step",
        anchor=None,
        outputs=(Output(tensor="out", value=requantized(draw, value, 64.0, out)),),
    )
    kinds = [Layout(kind="bytes", padding=(1, 0, 0, 2))]
    if tensor.grid is None:
        kinds = [Layout(kind=draw(st.sampled_from(("float", "reals"))))]
    layouts = {"source": tuple(kinds), "out": draw(layouts_of(out))}
    return Case(step=step, tensors={"source": tensor, "out": out}, layouts=layouts)


@pytest.mark.parametrize("isa", Isa)
@settings(max_examples=25, deadline=None)
@given(case=moved())
def test_agrees_with_the_oracle(isa: Isa, case: Case) -> None:
    require(isa)
    if Elementwise().matches(case.step, case.tensors, isa):
        check(Elementwise(), case, isa)


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_a_view_leaves_its_source_where_it_says(data: st.DataObject) -> None:
    """Every position that the conditions let pass is one of the source."""
    source: Extents = (3, 4, 5)
    view = data.draw(st.one_of(resamples(source), reindexes(source)))
    outside = 0
    for at in np.ndindex(*view.shape):
        place = view.position(at)
        if all(0 <= index < extent for index, extent in view.conditions(at)):
            assert all(0 <= index < extent for index, extent in zip(place, source, strict=True))
        else:
            outside += 1
    assert view.leaves or not outside


@pytest.mark.parametrize(
    ("step", "offset", "count"), [(-1, 0, 2), (-1, 1, 4), (-3, 2, 3), (1, 0, 4)]
)
def test_spread_rows_read_backwards(step: int, offset: int, count: int) -> None:
    """Positions below 0, which a simplifier of divisions got wrong for the first row."""
    grid = Grid(bits=8, signed=False)
    rows = Axis(step=step, offset=offset, divide=2, exact=True)
    view = Resample(shape=(count, 1, 1), source=(1, 1, 1), rows=rows)
    value = Affine(
        x=Load(tensor="source", views=(view,)), mul=np.float32([0.5]), add=np.float32([3])
    )
    case = Case(
        step=Step(name="step", anchor=None, outputs=(Output(tensor="out", value=value),)),
        tensors={
            "source": Tensor(name="source", shape=(1, 1, 1, 1), grid=grid),
            "out": Tensor(name="out", shape=(1, count, 1, 1)),
        },
        layouts={
            "source": (Layout(kind="bytes", padding=(1, 0, 0, 2)),),
            "out": (Layout(kind="reals"),),
        },
    )
    check(Elementwise(), case, Isa.PORTABLE)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    extents=st.lists(st.integers(1, 4), min_size=3, max_size=3).map(tuple),
    order=st.permutations(range(3)).map(tuple),
    size=st.permutations(range(3)).map(tuple),
)
def test_a_view_and_its_opposite_change_nothing(
    extents: Extents, order: Extents, size: Extents
) -> None:
    """Against the elements themselves: two views may also undo each other by chance."""
    count = math.prod(extents)
    source = (extents[size[0]], extents[size[1]], extents[size[2]])
    turned = tuple(extents[axis] for axis in order)
    there = Reindex(shape=(1, 1, count), source=source, extents=extents, order=order)
    opposite = tuple(int(axis) for axis in np.argsort(order))
    back = Reindex(shape=source, source=(1, 1, count), extents=turned, order=opposite)
    assert change_nothing(back, there)
    again = Reindex(shape=source, source=source, extents=extents, order=order)
    codes = np.arange(count).reshape(extents)
    assert change_nothing(again) == np.array_equal(codes.transpose(order).ravel(), codes.ravel())
    assert change_nothing(again, again) == np.array_equal(
        codes.transpose(order).reshape(extents).transpose(order).ravel(), codes.ravel()
    )


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    extents=st.lists(st.integers(1, 4), min_size=3, max_size=3).map(tuple),
    order=st.permutations(range(3)).map(tuple),
    size=st.permutations(range(3)).map(tuple),
)
def test_what_a_view_shows_is_undone(extents: Extents, order: Extents, size: Extents) -> None:
    source = (extents[size[0]], extents[size[1]], extents[size[2]])
    shape = (extents[order[0]], math.prod(extents) // extents[order[0]], 1)
    view = Reindex(shape=shape, source=source, extents=extents, order=order)
    array = np.random.default_rng(0).normal(size=(2, *source))
    at = np.ix_(*(np.arange(extent) for extent in shape))
    rows, columns, channels = (
        np.broadcast_to(index, shape) for index in view.position((at[0], at[1], at[2]))
    )
    np.testing.assert_array_equal(view.undone(array[:, rows, columns, channels]), array)


def test_large_images_are_compared_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """13 pixels at once: the last part is smaller."""
    monkeypatch.setattr(views, "ELEMENTS_AT_ONCE", 40)
    there = Reindex(shape=(1, 60, 3), source=(6, 10, 3), extents=(180,), order=(0,))
    back = Reindex(shape=(6, 10, 3), source=(1, 60, 3), extents=(180,), order=(0,))
    assert change_nothing(back, there)
    turned = Reindex(shape=(6, 10, 3), source=(6, 10, 3), extents=(3, 5, 2, 6), order=(0, 1, 2, 3))
    assert change_nothing(turned)
    swapped = Reindex(shape=(30, 2, 3), source=(30, 2, 3), extents=(3, 30, 2), order=(0, 2, 1))
    assert not change_nothing(swapped)


def test_what_leaves_elements_out_changes_something() -> None:
    assert not change_nothing(Resample(shape=(2, 2, 2), source=(2, 2, 3)))
    image = Reindex(shape=(2, 3, 4), source=(1, 1, 24), extents=(24,), order=(0,))
    assert not change_nothing(image)
    assert not change_nothing(image, image)


HALVES = Resample(shape=(2, 1, 2), source=(3, 1, 2), rows=Axis(step=-1, offset=3, divide=2))
BACKWARDS = Resample(shape=(3, 1, 2), source=(4, 1, 2), rows=Axis(step=-1, offset=4))


@pytest.mark.parametrize("isa", Isa)
@pytest.mark.parametrize("kind", ["float", "reals"])
@pytest.mark.parametrize(("first", "extents"), [(HALVES, (3, 1, 2, 1)), (BACKWARDS, (2, 1, 2, 2))])
def test_what_falls_is_not_merged_with_what_is_divided_of_it(
    isa: Isa, kind: Literal["float", "reals"], first: Resample, extents: tuple[int, ...]
) -> None:
    """Hypothesis found these: TVM took quotients of falling indices for others."""
    require(isa)
    source = (1, 2, math.prod(first.source) // 2)
    order = tuple(range(len(extents)))
    behind = Reindex(shape=first.source, source=source, extents=extents, order=order)
    value = Load(tensor="source", views=(first, behind))
    step = Step(name="step", anchor=None, outputs=(Output(tensor="out", value=value),))
    tensors = {
        "source": Tensor(name="source", shape=(1, *source)),
        "out": Tensor(name="out", shape=(1, *first.shape)),
    }
    layouts = {"source": (Layout(kind=kind),), "out": (Layout(kind="reals"),)}
    check(Elementwise(), Case(step=step, tensors=tensors, layouts=layouts), isa, exact=True)


@given(
    step=st.integers(-4, 4),
    offset=st.integers(-9, 20),
    divide=st.integers(1, 5),
    index=st.integers(0, 9),
)
def test_an_axis_divides_downwards(step: int, offset: int, divide: int, index: int) -> None:
    axis = Axis(step=step, offset=offset, divide=divide)
    assert axis.at(index) == (index * step + offset) // divide
