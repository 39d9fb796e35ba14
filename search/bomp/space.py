"""`Space`: one declarative description of the networks that may be built, for every engine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.core import ConfigError
from mpqdeploy.core.suggest import did_you_mean
from mpqdeploy.search.bomp.parameters import (
    Categorical,
    Ordinal,
    Parameter,
    Point,
    Value,
    When,
    parameter_from_json,
)

__all__ = ["Categorical", "Ordinal", "Parameter", "Point", "Space", "Value", "When"]


class Space:
    """Parameters in order, a parent before its children.

    A parameter has at most one parent, so the space is a forest; that is what makes counting exact
    and cheap. Raises `ConfigError` for a name that is there twice, a parent that is unknown or
    comes later, and a condition on a value that the parent does not have.
    """

    def __init__(self, *parameters: Parameter) -> None:
        self.parameters = parameters
        self._named: dict[str, Parameter] = {}
        for parameter in parameters:
            self._admit(parameter)

    def _admit(self, parameter: Parameter) -> None:
        name, when = parameter.name, parameter.when
        if name in self._named:
            raise ConfigError(f"parameter {name!r} is there twice.", hint="Name it once.")
        if when is not None:
            if when.parent not in self._named:
                raise ConfigError(
                    f"parameter {name!r} depends on {when.parent!r}, which is not before it.",
                    hint=did_you_mean(when.parent, self._named) + "Name parents first.",
                )
            allowed = self._named[when.parent].values
            if not when.values or not set(when.values) <= set(allowed):
                raise ConfigError(
                    f"parameter {name!r} is active at {when.parent} in {list(when.values)}; "
                    f"{when.parent!r} has {list(allowed)}.",
                    hint="Name one or more of these values.",
                )
        self._named[name] = parameter

    def __getitem__(self, name: str) -> Parameter:
        return self._named[name]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def active(self, parameter: Parameter, point: Point) -> bool:
        """Whether `parameter` counts at `point`."""
        return parameter.when is None or parameter.when.holds(point)

    def count(self) -> int:
        """How many distinct points are valid; exact, of any size."""
        return prod(self._sizes[p.name] for p in self.parameters if p.when is None)

    @cached_property
    def _sizes(self) -> dict[str, int]:
        """Valid assignments of each parameter together with everything below it."""
        sizes: dict[str, int] = {}
        for parameter in reversed(self.parameters):
            sizes[parameter.name] = sum(
                self._below(parameter, value, sizes) for value in parameter.values
            )
        return sizes

    def _below(self, parameter: Parameter, value: Value, sizes: Mapping[str, int]) -> int:
        """Valid assignments of what is below `parameter` where it has `value`."""
        return prod(
            sizes[child.name]
            for child in self.parameters
            if child.when is not None
            and child.when.parent == parameter.name
            and value in child.when.values
        )

    def sample(self, rng: np.random.Generator) -> Point:
        """A valid point, uniform *per parameter*: what the engines start from [o].

        Uniform over points would draw a value as often as there are networks below it: with bits
        for every repeated layer, nearly all draws would have the most repeats, and the cheap
        networks that a budget asks for would hardly be seen. `sample_point` does that.
        """
        return self.complete({}, rng)

    def complete(self, start: Point, rng: np.random.Generator) -> Point:
        """`start`'s values where they are active, uniform draws for what is missing."""
        point: dict[str, Value] = {}
        for parameter in self.parameters:
            if self.active(parameter, point):
                drawn = parameter.values[int(rng.integers(len(parameter.values)))]
                point[parameter.name] = start.get(parameter.name, drawn)
        return point

    def sample_point(self, rng: np.random.Generator) -> Point:
        """A valid point, uniform over all points: every network has the same chance."""
        point: dict[str, Value] = {}
        for parameter in self.parameters:
            if self.active(parameter, point):
                below = [self._below(parameter, v, self._sizes) for v in parameter.values]
                # Counts pass 2^63; their quotients are exact to a double's precision.
                total = sum(below)
                chances = np.array([count / total for count in below])
                chosen = int(rng.choice(len(below), p=chances / chances.sum()))
                point[parameter.name] = parameter.values[chosen]
        return point

    def points(self) -> Iterator[Point]:
        """All valid points, in order. For spaces that can be walked through."""
        yield from self._points(0, {})

    def _points(self, position: int, point: dict[str, Value]) -> Iterator[Point]:
        if position == len(self.parameters):
            yield dict(point)
            return
        parameter = self.parameters[position]
        if not self.active(parameter, point):
            yield from self._points(position + 1, point)
            return
        for value in parameter.values:
            yield from self._points(position + 1, {**point, parameter.name: value})

    def validate(self, point: Point) -> Point:
        """`point` in the space's order and with its own values (a 4 from JSON may be 4.0 there).

        Raises `ConfigError` that names the parameter and what is allowed: one that is unknown,
        inactive or missing, or has another value.
        """
        for name in point:
            if name not in self._named:
                raise ConfigError(
                    f"point: there is no parameter {name!r} in this space.",
                    hint=f"{did_you_mean(name, self._named)}Known: {', '.join(self._named)}.",
                )
        valid: dict[str, Value] = {}
        for parameter in self.parameters:
            name = parameter.name
            if not self.active(parameter, valid):
                self._refuse_inactive(parameter, point)
            elif name not in point or point[name] not in parameter.values:
                value = f"is {point[name]!r}" if name in point else "is missing"
                raise ConfigError(
                    f"point: parameter {name!r} {value}.",
                    hint=f"Allowed: {', '.join(map(str, parameter.values))}.",
                )
            else:
                valid[name] = parameter.values[parameter.index(point[name])]
        return valid

    def _refuse_inactive(self, parameter: Parameter, point: Point) -> None:
        if parameter.name in point and parameter.when is not None:
            values = ", ".join(map(str, parameter.when.values))
            raise ConfigError(
                f"point: parameter {parameter.name!r} is inactive here.",
                hint=f"Leave it out, or set {parameter.when.parent} to one of {values}.",
            )

    def mutate(self, point: Point, rng: np.random.Generator) -> Point:
        """A valid point that differs from `point` in one parameter and what hangs on it.

        An ordinal steps to a neighbour, a categorical to any other value; parameters that become
        active are drawn, those that no longer count are dropped. Raises `ConfigError` where the
        space has only one point.
        """
        movable = [p for p in self.parameters if p.name in point and len(p.values) > 1]
        if not movable:
            raise ConfigError(
                "a space of one point has nothing to mutate.", hint="Give a parameter more values."
            )
        parameter = movable[int(rng.integers(len(movable)))]
        here, last = parameter.index(point[parameter.name]), len(parameter.values) - 1
        if isinstance(parameter, Ordinal):
            others = [i for i in (here - 1, here + 1) if 0 <= i <= last]
        else:
            others = [i for i in range(last + 1) if i != here]
        value = parameter.values[others[int(rng.integers(len(others)))]]
        return self.complete({**point, parameter.name: value}, rng)

    @cached_property
    def dimensions(self) -> int:
        """d of `encode`."""
        return sum(_columns(parameter) for parameter in self.parameters)

    def encode(self, point: Point) -> NDArray[np.float64]:
        """`point` in [0, 1]^d, shape `[dimensions]`, for a Gaussian process.

        An ordinal is its index over the last index [F]. A categorical is one-hot, because its
        order means nothing [o]. What is inactive is at the centre, or all zero: the same for every
        point, and so no difference between them [o].
        """
        parts = [_encoded(p, point.get(p.name)) for p in self.parameters]
        return np.concatenate(parts) if parts else np.zeros(0)

    def decode(self, vector: NDArray[np.float64]) -> Point:
        """The valid point nearest to `vector`, shape `[dimensions]`, parameter by parameter."""
        point: dict[str, Value] = {}
        position = 0
        for parameter in self.parameters:
            part = vector[position : position + _columns(parameter)]
            position += _columns(parameter)
            if self.active(parameter, point):
                options = [np.abs(_encoded(parameter, value) - part) for value in parameter.values]
                nearest = int(np.argmin([option.sum() for option in options]))
                point[parameter.name] = parameter.values[nearest]
        return point

    def key(self, point: Point) -> str:
        """A text that is equal for equal points whatever their order."""
        return json.dumps([[p.name, point[p.name]] for p in self.parameters if p.name in point])

    def to_json(self) -> dict[str, Any]:
        return {"parameters": [parameter.to_json() for parameter in self.parameters]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Space:
        return cls(*(parameter_from_json(parameter) for parameter in data["parameters"]))

    @cached_property
    def fingerprint(self) -> str:
        """12 hexadecimal digits that tell this space from every other."""
        text = json.dumps(self.to_json(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def _columns(parameter: Parameter) -> int:
    return len(parameter.values) if isinstance(parameter, Categorical) else 1


def _encoded(parameter: Parameter, value: Value | None) -> NDArray[np.float64]:
    """One parameter's columns; None stands for inactive."""
    if isinstance(parameter, Categorical):
        column = np.zeros(len(parameter.values))
        if value is not None:
            column[parameter.index(value)] = 1.0
        return column
    last = len(parameter.values) - 1
    if value is None or last == 0:
        return np.array([0.5])
    return np.array([parameter.index(value) / last])
