"""`Part`: where in a turn something stands that is spread over the turn's products."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Part:
    """The `number`-th of `count` products that are written out, in the `round`-th (a TIR
    expression, or an int) of `rounds` of a loop around them."""

    round: Any
    rounds: int
    number: int
    count: int

    def after(self, passes: int, of: int) -> Part:
        """This part, behind so many passes through all products, of `of` in a turn."""
        done = passes * self.rounds + self.round
        return Part(done, of * self.rounds, self.number, self.count)

    def of(self, total: int) -> Iterator[tuple[Any, bool]]:
        """Those of `total` that follow this product, each exactly once in a turn, and whether they
        are certain to exist: in the last round some may not."""
        each = -(-total // self.rounds)
        for i in range(each * self.number // self.count, each * (self.number + 1) // self.count):
            yield self.round * each + i, (self.rounds - 1) * each + i < total
