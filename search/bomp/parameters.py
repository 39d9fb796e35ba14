"""What a space is made of: parameters with ordered or unordered values, some conditional."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mpqdeploy.core import ConfigError

Value = int | float | str
# The active parameters of one network, and no others.
Point = Mapping[str, Value]


@dataclass(frozen=True, kw_only=True)
class When:
    """Active only where parameter `parent` is active and has one of `values`."""

    parent: str
    values: tuple[Value, ...]

    def holds(self, point: Point) -> bool:
        return self.parent in point and point[self.parent] in self.values

    def to_json(self) -> dict[str, Any]:
        return {"parent": self.parent, "values": list(self.values)}


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A name, its values, and when it is active (always, where `when` is None).

    Raises `ConfigError` for no value at all, or one that is there twice.
    """

    name: str
    values: tuple[Value, ...]
    when: When | None = None

    def __post_init__(self) -> None:
        if not self.values:
            raise ConfigError(f"parameter {self.name!r} has no values.", hint="Name one at least.")
        if len(set(self.values)) < len(self.values):
            raise ConfigError(
                f"parameter {self.name!r} has a value twice: {list(self.values)}.",
                hint="Name every value once.",
            )

    def index(self, value: Value) -> int:
        return self.values.index(value)

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {
            "name": self.name,
            "kind": type(self).__name__.lower(),
            "values": list(self.values),
        }
        return data if self.when is None else {**data, "when": self.when.to_json()}


class Ordinal(Parameter):
    """Values in an order that means something: bits, widths, repeats."""


class Categorical(Parameter):
    """Values without an order."""


KINDS: Mapping[str, type[Parameter]] = {"ordinal": Ordinal, "categorical": Categorical}


def parameter_from_json(data: Mapping[str, Any]) -> Parameter:
    when = data.get("when")
    return KINDS[data["kind"]](
        name=data["name"],
        values=tuple(data["values"]),
        when=None if when is None else When(parent=when["parent"], values=tuple(when["values"])),
    )
