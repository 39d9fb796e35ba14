"""`Builder`: the program under construction, as groups that later become steps.

A value of the graph is an expression that belongs to one group: an anchor and what follows it
elementwise. Where a value is needed in another group it is written to a tensor and loaded there;
its integer code where it has one, else its float. Groups are numbered in creation order and load
only what lower-numbered groups write, so that order is an execution order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.passes.integerize.expressions import (
    Doubles,
    dequantize,
    distribute,
    mapped,
)
from mpqdeploy.targets.passes.integerize.quantizers import Codes
from mpqdeploy.targets.program import (
    Affine,
    Anchor,
    Clip,
    Expr,
    Grid,
    Load,
    Output,
    Quant,
    Step,
    Tensor,
    operands,
    walk,
)
from mpqdeploy.targets.rebuilt import substituted
from mpqdeploy.targets.views import Reindex

Shape4 = tuple[int, int, int, int]
Padding = tuple[int, int, int, int]
NO_PADDING: Padding = (0, 0, 0, 0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Constant:
    """A tensor known at compile time, and the nodes that computed it."""

    array: NDArray[np.generic]
    codes: Codes | None = None
    sources: tuple[str, ...] = ()


@dataclass(kw_only=True, eq=False)
class Group:
    """A step to be; `shape` is the logical [N, H, W, C] of everything it writes."""

    index: int
    shape: Shape4
    anchor: Anchor | None
    sources: dict[str, None] = field(default_factory=dict)
    outputs: list[Output] = field(default_factory=list)
    coded: list[Coded] = field(default_factory=list)
    fallback: dict[str, None] = field(default_factory=dict)

    def add_sources(self, names: Iterable[str]) -> None:
        self.sources.update(dict.fromkeys(names))

    def absorb(self, other: Group) -> None:
        """Take over what `other` stands for, because its values are computed here."""
        self.sources.update(other.sources)
        self.fallback.update(other.fallback)


@dataclass(frozen=True, kw_only=True, eq=False)
class Coded:
    """An expression that yields a code on `grid`; real = `scale` * (code - `zero_point`).

    `scale` and `zero_point` have shape `[1]` or `[C]`; `name` is the tensor it is written to.
    """

    name: str
    expr: Expr
    grid: Grid
    scale: Doubles
    zero_point: Doubles


@dataclass(frozen=True, kw_only=True, eq=False)
class Value:
    """A tensor of the graph: its ONNX name and shape, and the expression of its real value.

    `padding` is spatial zero padding that the next anchor has to apply, and is part of `shape`.
    `mean_of` is the value whose mean over all pixels this is.
    """

    name: str
    shape: tuple[int, ...]
    group: Group
    expr: Expr
    coded: Coded | None = None
    padding: Padding = NO_PADDING
    reason: str = ""  # why there is no code, for errors
    mean_of: Value | None = None

    @property
    def channels(self) -> int:
        return self.group.shape[3]


class Builder:
    """Groups, tensors, and where values cross from one group to another."""

    def __init__(self, uses: Mapping[str, int], reserved: Iterable[str]) -> None:
        """`uses`: readers per ONNX tensor; `reserved`: names that inner tensors must not take."""
        self.groups: list[Group] = []
        self.tensors: dict[str, Tensor] = {}
        self._uses = uses
        self._reserved = set(reserved)
        self._producer: dict[str, int] = {}
        self._written: dict[tuple[int, Expr], list[tuple[Coded | None, str]]] = {}
        self._depths: dict[Expr, int] = {}

    def group(self, shape: Shape4, anchor: Anchor | None, source: str = "") -> Group:
        group = Group(index=len(self.groups), shape=shape, anchor=anchor)
        group.add_sources([source] if source else [])
        self.groups.append(group)
        return group

    def input(self, name: str, shape: tuple[int, ...]) -> Value:
        """A float32 model input, shape NCHW or NC."""
        logical = logical_shape(shape)
        self.tensors[name] = Tensor(name=name, shape=logical)
        self._producer[name] = -1
        group = self.group(logical, None)
        return Value(name=name, shape=shape, group=group, expr=Load(tensor=name))

    def depth(self, expr: Expr) -> int:
        """How many expressions lie on the longest way down."""
        if expr not in self._depths:
            below = (self.depth(operand) for operand in operands(expr))
            self._depths[expr] = 1 + max(below, default=0)
        return self._depths[expr]

    def write_codes(self, group: Group, coded: Coded) -> str:
        """The tensor that holds `coded`, written by `group`; written once."""
        for other, name in self._written.get((group.index, coded.expr), []):
            if other is not None and _same_meaning(other, coded):
                return name
        name = self._fresh(coded.name)
        self.tensors[name] = Tensor(
            name=name,
            shape=group.shape,
            grid=coded.grid,
            scale=coded.scale.astype(np.float32),
            zero_point=coded.zero_point.astype(np.float32),
        )
        return self._output(group, name, coded.expr, coded)

    def write_float(self, group: Group, expr: Expr, name: str, *, port: bool = False) -> str:
        """The float32 tensor that holds `expr`; a `port` keeps exactly its name."""
        if not port:
            if isinstance(expr, Load) and self._is_whole_float(expr):
                return expr.tensor
            for coded, written in self._written.get((group.index, expr), []):
                if coded is None:
                    return written
            name = self._fresh(name)
        self.tensors[name] = Tensor(name=name, shape=group.shape)
        return self._output(group, name, expr, None)

    def show(self, tensor: str, name: str, view: Reindex) -> None:
        """`tensor` holds what the ONNX tensor `name` has, as `view` shows it."""
        self.tensors[tensor] = replace(self.tensors[tensor], shows=(name, view))

    def _is_whole_float(self, load: Load) -> bool:
        return load == Load(tensor=load.tensor) and self.tensors[load.tensor].grid is None

    def _output(self, group: Group, name: str, expr: Expr, coded: Coded | None) -> str:
        group.outputs.append(Output(tensor=name, value=expr))
        self._producer[name] = group.index
        self._written.setdefault((group.index, expr), []).append((coded, name))
        return name

    def _fresh(self, name: str) -> str:
        candidate, count = name, 0
        while candidate in self.tensors or candidate in self._reserved:
            count += 1
            candidate = f"{name}.{count}"
        return candidate

    def meet(self, x: Value, y: Value) -> Group:
        """The group in which an expression over both values is computed."""
        first, second = sorted((x, y), key=lambda value: value.group.index)
        if self.moves(second) and self._floor(second) < first.group.index:
            return first.group  # a shortcut's strided loads join the convolution before them
        return second.group

    def read(self, value: Value, group: Group) -> Expr:
        """The real value of `value` as an expression of `group`, which is not before its own."""
        if value.group is group:
            return value.expr
        if self.moves(value):
            group.absorb(value.group)
            return value.expr
        return self._reload(value.group, value.expr, value.name)

    def _reload(self, group: Group, expr: Expr, name: str) -> Expr:
        """`expr` over a load: as high up as there is an integer code, else the whole as float."""
        below = expr
        while True:
            coded = next((coded for coded in group.coded if coded.expr is below), None)
            if coded is not None:
                load = Load(tensor=self.write_codes(group, coded))
                return substituted(expr, {below: load}, mapped)
            if not isinstance(below, Affine | Clip):
                return Load(tensor=self.write_float(group, expr, name))
            below = below.x

    def moves(self, value: Value) -> bool:
        """Whether a group can compute the value itself, for less than a tensor would cost."""
        if value.group.anchor is not None:
            return False
        if not _rounds(value.expr):
            return True
        return self._uses.get(value.name, 0) == 1 and not value.group.outputs

    def _floor(self, value: Value) -> int:
        """The last group that writes something the value reads."""
        reads = (expr.tensor for expr in walk(value.expr) if isinstance(expr, Load))
        return max((self._producer[name] for name in reads), default=-1)

    def steps(self) -> tuple[Step, ...]:
        """The groups that write something, in execution order, each under a name of its own: that
        of the first node, where several are computed for one node the anchor's."""
        groups = [group for group in self.groups if group.outputs]
        names: dict[int, str] = {}
        for group in sorted(groups, key=lambda group: group.anchor is None):
            name, count = next(iter(group.sources), group.outputs[0].tensor), 0
            while name in names.values():
                count += 1
                name = f"{next(iter(group.sources))}.{count}"
            names[group.index] = name
        return tuple(
            Step(
                name=names[group.index],
                anchor=group.anchor,
                outputs=distribute(group.outputs),
                sources=tuple(group.sources),
                fallback=tuple(group.fallback),
            )
            for group in groups
        )


def logical_shape(shape: tuple[int, ...]) -> Shape4:
    """An ONNX shape as [N, H, W, C]: NCHW, NC, or as one row of all but N and C."""
    batch, channels = shape[:2]
    if len(shape) == 4:
        return batch, shape[2], shape[3], channels
    return batch, 1, int(np.prod(shape[2:], dtype=int)), channels


def onnx_shape_of(shape: Shape4, rank: int) -> tuple[int, ...]:
    """[N, H, W, C] as ONNX has it: NCHW, NCL of one row, or NC of one pixel."""
    batch, height, width, channels = shape
    return (batch, channels, height, width) if rank == 4 else (batch, channels, width)[:rank]


def real_value(coded: Coded) -> Expr:
    return dequantize(coded.expr, coded.scale, coded.zero_point)


def coded_value(name: str, shape: tuple[int, ...], group: Group, coded: Coded) -> Value:
    """A value that has a code, made known to its group so that other groups can read the code."""
    group.coded.append(coded)
    return Value(name=name, shape=shape, group=group, expr=real_value(coded), coded=coded)


def _rounds(expr: Expr) -> bool:
    return any(isinstance(part, Quant) for part in walk(expr))


def _same_meaning(x: Coded, y: Coded) -> bool:
    return (
        x.grid == y.grid
        and np.array_equal(x.scale, y.scale)
        and np.array_equal(x.zero_point, y.zero_point)
    )
