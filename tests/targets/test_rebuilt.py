"""Expressions over other operands: the rest as it was, and one object where several share it."""

from __future__ import annotations

import numpy as np
import pytest

from mpqdeploy.targets.program import (
    Acc,
    Affine,
    Apply,
    Clip,
    Expr,
    Grid,
    Load,
    Product,
    Quant,
    Sum,
    operands,
)
from mpqdeploy.targets.rebuilt import rebuilt, substituted

CODES = Grid(bits=4, signed=True)
OTHER = Load(tensor="x")


def affine(x: Expr) -> Affine:
    return Affine(x=x, mul=np.float32([0.5]), add=np.float32([3]))


@pytest.mark.parametrize(
    "expr",
    [
        affine(Acc()),
        Apply(x=Acc(), function="exp"),
        Clip(x=Acc(), low=-1.0, high=2.0),
        Quant(x=Acc(), grid=CODES, rounding="FLOOR"),
        Sum(x=Acc(), y=Acc()),
        Product(x=Acc(), y=Acc()),
    ],
    ids=lambda expr: type(expr).__name__,
)
def test_every_operation_over_another_operand(expr: Expr) -> None:
    found = rebuilt(expr, lambda _: OTHER)
    assert type(found) is type(expr)
    assert set(operands(found)) == {OTHER}
    others = {name: value for name, value in vars(found).items() if name not in ("x", "y")}
    assert others == {name: vars(expr)[name] for name in others}


def test_what_has_no_operands_is_itself() -> None:
    assert rebuilt(OTHER, lambda _: Acc()) is OTHER


def test_what_is_shared_stays_one_object() -> None:
    code = Quant(x=affine(Acc()), grid=CODES)
    known: dict[Expr, Expr] = {Acc(): OTHER}
    first = substituted(code, known)
    second = substituted(Sum(x=code, y=affine(code)), known)
    assert isinstance(first, Quant)
    assert isinstance(first.x, Affine)
    assert first.x.x is OTHER
    assert isinstance(second, Sum)
    assert isinstance(second.y, Affine)
    assert second.x is first
    assert second.y.x is first


def test_parts_are_made_by_who_is_asked() -> None:
    known: dict[Expr, Expr] = {Acc(): OTHER}
    assert substituted(affine(Acc()), known, lambda _, change: change(Acc())) is OTHER
