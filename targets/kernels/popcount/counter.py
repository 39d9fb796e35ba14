"""Counting the set bits of many words at once: carry-save addition, a binary digit per level.

A CPU without a vector population count spends 7 operations on one; adding words bit position by bit
position spends 2 per word, and counts once per level at the end (Harley and Seal's method, in
Warren, Hacker's Delight, ch. 5). A value of level l stands for 2^l at each of its set bits.

    full adder:  sum = a ^ b ^ c                      carry = majority(a, b, c)

Here the words are x_i = a_i ^ w_i. For two of them stored as (a_0, a_0 ^ a_1) and (w_0, w_0 ^ w_1),
the second word is never formed [o]: one operation of four is saved.

    sum = c ^ (a_0 ^ a_1) ^ (w_0 ^ w_1)               carry = c where sum != c, else x_0
"""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeVar

V = TypeVar("V")
Operands = tuple[Any, Any]  # expressions that stay as they are


class Adder(Protocol[V]):
    """Addition of three or two bits at every position of a vector: (sum, carry).

    The values that go in are not used again.
    """

    def full(self, a: V, b: V, c: V) -> tuple[V, V]: ...

    def half(self, a: V, b: V) -> tuple[V, V]: ...

    def pair(self, c: V, first: V, both: Operands) -> tuple[V, V]:
        """c + x_0 + x_1, where `first` is x_0 and the exclusive or of `both` is x_0 ^ x_1."""

    def start(self, first: V, both: Operands) -> tuple[V, V]:
        """`pair` with c = 0."""


class Counter(Generic[V]):
    """The sum so far: at most two values per level, of which the first is the sum."""

    def __init__(self, adder: Adder[V]) -> None:
        self._adder = adder
        self._levels: list[list[V]] = []

    def add(self, level: int, value: V) -> None:
        """Add 2^level at each set bit of `value`."""
        values = self._at(level)
        values.append(value)
        if len(values) == 3:
            total, carry = self._adder.full(*values)
            values[:] = [total]
            self.add(level + 1, carry)

    def add_pair(self, level: int, first: V, both: Operands) -> None:
        """Add two words; see `Adder.pair`."""
        values = self._at(level)
        if values:
            total, carry = self._adder.pair(values[0], first, both)
        else:
            total, carry = self._adder.start(first, both)
        values[:1] = [total]
        self.add(level + 1, carry)

    def digits(self) -> dict[int, V]:
        """One value per level that any count reached; nothing is left to add."""
        level = 0
        while level < len(self._levels):
            values = self._levels[level]
            if len(values) == 2:
                total, carry = self._adder.half(*values)
                values[:] = [total]
                self.add(level + 1, carry)
            level += 1
        return {level: values[0] for level, values in enumerate(self._levels) if values}

    def _at(self, level: int) -> list[V]:
        while len(self._levels) <= level:
            self._levels.append([])
        return self._levels[level]
