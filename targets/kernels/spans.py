"""A length cut into steps: how a loop over rows or columns is emitted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Span:
    """`count` steps of `step` elements each, from element `start`."""

    start: int
    count: int
    step: int


def cut(length: int, step: int) -> list[Span]:
    """`length` as a run of whole steps and, where something is left, one shorter step."""
    whole, rest = divmod(length, step)
    spans = [Span(start=0, count=whole, step=step)] if whole else []
    return spans + ([Span(start=whole * step, count=1, step=rest)] if rest else [])
