"""A family of networks as a search space: what a point says of a network's shape and its bits.

Per stage [r]: kernel size, width multiplier, expansion, repeats, weight bits and activation bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mpqdeploy.core import ConfigError, Policy, Precision, Site, bops_table, bytes_table
from mpqdeploy.nn import MODELS, ModelSpec, sites
from mpqdeploy.nn.models.mobile import Family, Mobile, Stage
from mpqdeploy.search.bomp.space import Ordinal, Parameter, Point, Space, Value, When

HEAD = "head"
_WEIGHT, _ACT = "weight_bits", "act_bits"


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What every stage may take; `repeats` of 0 only where a stage may be left out."""

    kernels: tuple[int, ...] = (3, 5)
    widths: tuple[float, ...] = (0.5, 1.0, 1.5)
    expansions: tuple[int, ...] = (1, 2, 3, 4, 6)
    repeats: tuple[int, ...] = (0, 1, 2, 3, 4)
    head_widths: tuple[float, ...] = (0.25, 0.5, 1.0)


@dataclass(frozen=True, kw_only=True)
class Network:
    """One network of a family: how to build it, and every layer's precision."""

    spec: ModelSpec
    policy: Policy
    sites: tuple[Site, ...]

    @property
    def counted(self) -> dict[str, float]:
        """The costs that need no measurement: BOPs and bytes."""
        used = tuple(set(self.policy.precisions.values()))
        return {
            table.metric: table.of(self.policy)
            for table in (bops_table(self.sites, used), bytes_table(self.sites, used))
        }


class Networks:
    """The networks of `base`'s family at any of `precisions`.

    A point has a parameter only where it makes a difference: none of a stage that is left out, the
    activation bits only where the weight bits leave a choice, no two widths of one channel count.
    Different points are different networks, therefore.
    """

    def __init__(
        self, base: ModelSpec, precisions: Sequence[Precision], choices: Choices | None = None
    ) -> None:
        """Raises `ConfigError` for a model without a family, and choices that it cannot take."""
        self.base = base
        self.family = family_of(base.name)
        self.choices = choices or Choices()
        self._acts = _acts(precisions)
        self._widths = _widths(self.family, self.choices.widths)

    @cached_property
    def space(self) -> Space:
        stages = [
            parameter
            for number, stage in enumerate(self.family.stages)
            for parameter in self._stage(number, stage)
        ]
        heads = _distinct(self.choices.head_widths, self.family.head_width)
        head = Ordinal(name=f"{HEAD}.width", values=heads)
        return Space(*stages, head, *self._bits(HEAD, None))

    def network(self, point: Point) -> Network:
        """What a valid point of `space` describes; its first and last layer are at 8/8 [r]."""
        options = self._options(point)
        spec = ModelSpec(
            name=self.base.name,
            num_classes=self.base.num_classes,
            image=self.base.image,
            options=options,
        )
        found = sites(spec)
        precisions = {
            site.name: site.pinned or self._precision(point, _part(site.name)) for site in found
        }
        return Network(
            spec=spec, policy=Policy(precisions=precisions, architecture=options), sites=found
        )

    def _stage(self, number: int, stage: Stage) -> list[Parameter]:
        part = _stage_name(number)
        allowed = tuple(count for count in self.choices.repeats if count >= stage.fewest)
        if not allowed:
            raise ConfigError(
                f"search.bomp.space.repeats: stage {number} of {self.base.name!r} needs one.",
                hint=f"Allow {stage.fewest} or more.",
            )
        repeats = Ordinal(name=f"{part}.repeats", values=allowed)
        there = None
        if 0 in allowed:
            there = When(parent=repeats.name, values=tuple(n for n in allowed if n > 0))
        if there is not None and not there.values:
            return []  # never there: nothing to choose
        shape: dict[str, tuple[Value, ...]] = {
            "kernel": self.choices.kernels,
            "width": self._widths[number],
            "expansion": self.choices.expansions,
        }
        return [
            repeats,
            *(Ordinal(name=f"{part}.{k}", values=v, when=there) for k, v in shape.items()),
            *self._bits(part, there),
        ]

    def _bits(self, part: str, there: When | None) -> list[Parameter]:
        """Weight bits, and activation bits where these leave a choice of the target's pairs."""
        weight = Ordinal(name=f"{part}.{_WEIGHT}", values=tuple(self._acts), when=there)
        groups: dict[tuple[int, ...], list[int]] = {}
        for bits, acts in self._acts.items():
            groups.setdefault(acts, []).append(bits)
        return [
            weight,
            *(
                Ordinal(
                    name=_act_name(part, acts),
                    values=acts,
                    when=When(parent=weight.name, values=tuple(widths)),
                )
                for acts, widths in groups.items()
                if len(acts) > 1
            ),
        ]

    def _options(self, point: Point) -> dict[str, Any]:
        """The model's options; a stage that is left out has its defaults."""
        columns: dict[str, list[Any]] = {
            option: [] for option in ("kernels", "widths", "expansions", "repeats")
        }
        for number, stage in enumerate(self.family.stages):
            part = _stage_name(number)
            columns["kernels"].append(point.get(f"{part}.kernel", stage.kernel))
            columns["widths"].append(point.get(f"{part}.width", 1.0))
            columns["expansions"].append(point.get(f"{part}.expansion", stage.expansion))
            columns["repeats"].append(point.get(f"{part}.repeats", 0))
        return {**columns, "head_width": point[f"{HEAD}.width"]}

    def _precision(self, point: Point, part: str) -> Precision:
        weight = int(point[f"{part}.{_WEIGHT}"])
        acts = self._acts[weight]
        act = acts[0] if len(acts) == 1 else int(point[_act_name(part, acts)])
        return Precision(weight_bits=weight, act_bits=act)


def bits_at(space: Space, precision: Precision) -> dict[str, Value]:
    """The values of all bits' parameters, active or not, that make every layer's precision so."""
    bits: dict[str, Value] = {}
    for parameter in space.parameters:
        kind = parameter.name.partition(".")[2]
        if kind == _WEIGHT:
            bits[parameter.name] = precision.weight_bits
        elif kind.startswith(_ACT) and precision.act_bits in parameter.values:
            bits[parameter.name] = precision.act_bits
    return bits


def family_of(name: str) -> Family:
    """The family of a model. Raises `ConfigError` for one whose shape is not searched."""
    definition = MODELS[name]
    if isinstance(definition, type) and issubclass(definition, Mobile):
        return definition.family
    known = [n for n, d in MODELS.items() if isinstance(d, type) and issubclass(d, Mobile)]
    raise ConfigError(
        f"model.name: {name!r} is one network and no family of them, which bomp-nas searches.",
        hint=f"Use {' or '.join(sorted(known))}, or an engine that keeps the architecture.",
    )


def _acts(precisions: Sequence[Precision]) -> dict[int, tuple[int, ...]]:
    """Activation bits by weight bits, both rising: the pairs that the target has kernels for."""
    weights = sorted({precision.weight_bits for precision in precisions})
    return {
        bits: tuple(sorted({p.act_bits for p in precisions if p.weight_bits == bits}))
        for bits in weights
    }


def _widths(family: Family, multipliers: Sequence[float]) -> list[tuple[float, ...]]:
    """Width multipliers per stage, without those that would describe a network twice.

    Channels are rounded, so two multipliers of a stage may mean the same. And of two stages at one
    image size, one may be left out: had they a width in common, a block of the one would be as
    well a block of the other. The multiplier nearest to 1 keeps the width.
    """
    chosen: list[list[float]] = [[] for _ in family.stages]
    for size in _sizes(family):
        claimed: set[int] = set()
        pairs = [(multiplier, number) for multiplier in multipliers for number in size]
        for multiplier, number in sorted(pairs, key=lambda pair: abs(math.log(pair[0]))):
            channels = family.stages[number].width(multiplier)
            if channels not in claimed:
                claimed.add(channels)
                chosen[number].append(multiplier)
    for number, widths in enumerate(chosen):
        if not widths:
            raise ConfigError(
                f"search.bomp.space.widths: {list(multipliers)} leave stage {number} no width of"
                " its own.",
                hint="Give 1.0, or more of them.",
            )
    return [tuple(sorted(widths)) for widths in chosen]


def _sizes(family: Family) -> list[list[int]]:
    """Stages by the size of the image that they work on."""
    sizes: list[list[int]] = []
    for number, stage in enumerate(family.stages):
        if not sizes or stage.stride != 1:
            sizes.append([])
        sizes[-1].append(number)
    return sizes


def _distinct(multipliers: Sequence[float], width: Callable[[float], int]) -> tuple[float, ...]:
    """Rising, one per number of channels."""
    return tuple({width(multiplier): multiplier for multiplier in sorted(multipliers)}.values())


def _stage_name(number: int) -> str:
    return f"stage{number}"


def _act_name(part: str, acts: tuple[int, ...]) -> str:
    return f"{part}.{_ACT}_{'_'.join(map(str, acts))}"


def _part(site: str) -> str:
    """The part of the network that a layer's name lies in: a stage, or the head."""
    kind, number, *_ = site.split(".")
    return _stage_name(int(number)) if kind == "stages" else HEAD
