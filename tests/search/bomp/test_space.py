"""A space counts, draws, checks, changes and encodes its points; held to its own enumeration."""

from __future__ import annotations

import json
from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpqdeploy.core import ConfigError
from mpqdeploy.search.bomp.parameters import Categorical, Ordinal, Point, When
from mpqdeploy.search.bomp.space import Space
from tests.search.bomp.problems import LAYERED, spaces


def brute_force(space: Space) -> set[str]:
    """Every combination of all parameters, with what is inactive taken out."""
    found = set()
    for values in product(*(p.values for p in space.parameters)):
        point: dict[str, object] = {}
        for parameter, value in zip(space.parameters, values, strict=True):
            when = parameter.when
            if when is None or (when.parent in point and point[when.parent] in when.values):
                point[parameter.name] = value
        found.add(json.dumps(sorted(point.items())))
    return found


def as_text(point: Point) -> str:
    return json.dumps(sorted(point.items()))


@given(spaces())
def test_counting_is_enumerating(space: Space) -> None:
    points = [as_text(point) for point in space.points()]
    assert set(points) == brute_force(space)
    assert len(points) == space.count() == len(set(points))


def test_a_space_too_large_to_walk_through_is_counted_exactly() -> None:
    bits = [Ordinal(name=f"b{i}", values=(1, 2, 4, 8)) for i in range(60)]
    assert Space(*bits).count() == 4**60


@given(spaces(), st.integers(0, 2**32))
def test_draws_and_changes_are_valid(space: Space, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for point in (space.sample(rng), space.sample_point(rng)):
        assert space.validate(point) == point
        if space.count() > 1 and any(len(space[n].values) > 1 for n in point):
            changed = space.mutate(point, rng)
            assert space.validate(changed) == changed
            assert space.key(changed) != space.key(point)


def test_an_ordinal_steps_to_a_neighbour_and_keeps_the_rest() -> None:
    rng = np.random.default_rng(0)
    start = {"kernel": "plain", "depth": 3, "bits1": 1, "bits2": 4, "bits3": 8}
    changed = [LAYERED.mutate(start, rng) for _ in range(100)]
    assert {point["depth"] for point in changed} == {3, 2}
    assert {point.get("bits2") for point in changed} == {2, 4, 8}
    assert {point["bits1"] for point in changed} == {1, 2}
    # Of one layer less, the others keep their bits.
    shorter = {"kernel": "plain", "depth": 2, "bits1": 1, "bits2": 4}
    assert shorter in changed


def test_sample_point_is_uniform_over_points_and_sample_per_parameter() -> None:
    rng = np.random.default_rng(0)
    draws = 8000
    whole = Counter(LAYERED.key(LAYERED.sample_point(rng)) for _ in range(draws))
    expected = draws / LAYERED.count()
    assert len(whole) == LAYERED.count()
    chi_square = sum((count - expected) ** 2 / expected for count in whole.values())
    assert chi_square < 220  # 167 degrees of freedom: 99.6 %
    depths = Counter(LAYERED.sample(rng)["depth"] for _ in range(3000))
    assert all(abs(count - 1000) < 130 for count in depths.values())


@given(spaces())
def test_encoding_tells_all_points_apart_and_back(space: Space) -> None:
    seen = set()
    for point in space.points():
        vector = space.encode(point)
        assert vector.shape == (space.dimensions,)
        assert vector.min() >= 0
        assert vector.max() <= 1
        assert space.decode(vector) == point
        seen.add(tuple(vector))
    assert len(seen) == space.count()


def test_an_ordinal_is_encoded_by_its_index() -> None:
    space = Space(Ordinal(name="bits", values=(1, 2, 8)), Categorical(name="k", values=("a", "b")))
    assert space.encode({"bits": 2, "k": "b"}).tolist() == [0.5, 0.0, 1.0]


@given(spaces())
def test_json_round_trip(space: Space) -> None:
    again = Space.from_json(json.loads(json.dumps(space.to_json())))
    assert again == space
    assert again.fingerprint == space.fingerprint
    for point in space.points():
        read = json.loads(json.dumps(dict(reversed(list(point.items())))))
        assert again.validate(read) == point
        assert again.key(read) == space.key(point)


def test_a_fingerprint_tells_spaces_apart() -> None:
    plain = Space(Ordinal(name="a", values=(1, 2)))
    for other in (
        Space(Ordinal(name="a", values=(2, 1))),
        Space(Categorical(name="a", values=(1, 2))),
        Space(Ordinal(name="b", values=(1, 2))),
    ):
        assert other.fingerprint != plain.fingerprint
        assert other != plain


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ({"kernal": "wide"}, "no parameter 'kernal'.*Did you mean kernel"),
        ({"kernel": "wide", "depth": 4}, "'depth' is 4.*Allowed: 1, 2, 3"),
        ({"kernel": "wide", "depth": 1}, "'bits1' is missing.*Allowed: 1, 2, 4, 8"),
        (
            {"kernel": "wide", "depth": 1, "bits1": 1, "bits2": 1},
            "'bits2' is inactive.*depth to one of 2, 3",
        ),
    ],
)
def test_an_invalid_point_is_named(point: Point, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LAYERED.validate(point)


def test_impossible_spaces_are_refused() -> None:
    parent = Ordinal(name="depth", values=(1, 2))
    with pytest.raises(ConfigError, match="there twice"):
        Space(parent, parent)
    with pytest.raises(ConfigError, match=r"'bits' depends on 'dept'.*Did you mean depth"):
        Space(parent, Ordinal(name="bits", values=(1,), when=When(parent="dept", values=(1,))))
    with pytest.raises(ConfigError, match=r"active at depth in \[3\]"):
        Space(parent, Ordinal(name="bits", values=(1,), when=When(parent="depth", values=(3,))))
    with pytest.raises(ConfigError, match="no values"):
        Ordinal(name="bits", values=())
    with pytest.raises(ConfigError, match="a value twice"):
        Ordinal(name="bits", values=(1, 1))
    with pytest.raises(ConfigError, match="nothing to mutate"):
        Space(Ordinal(name="a", values=(1,))).mutate({"a": 1}, np.random.default_rng(0))
