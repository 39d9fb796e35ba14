"""Pairs of rows: an image of few channels, laid out so that a product takes two kernel rows.

A kernel row of an image of 3 channels is 21 bytes of 7 columns: a third of the 64 that a product
multiplies in the same time. A convolution that goes down two rows at a time meets the rows of an
image as pairs, always the same ones. With these interleaved pixel by pixel, two kernel rows are one
run of bytes: 4 products of 42 bytes instead of 7 of 21. The copy takes 5 us of an image of
224 x 224, where the products that it saves take 60 [o].
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.kernels.tiles.plan import Plan

HALF = 32  # bytes of a row that go into a vector
STACK = 2


@dataclass(frozen=True)
class Pairs:
    """The pairs of a padded input of `height` rows of `width` pixels of `pixel` bytes, from row
    `first` on."""

    height: int
    width: int
    pixel: int
    first: int
    count: int

    @classmethod
    def of(cls, plan: Plan, height: int, width: int, first: int) -> Pairs:
        """Those that `paired(plan)` reads."""
        geometry = plan.geometry
        count = geometry.out_height - 1 + -(-geometry.kernel[0] // STACK)
        return cls(height=height, width=width, pixel=plan.pixel, first=first, count=count)

    def copied(self, source: Any) -> Any:
        """Emits the copy of a padded input; the buffer `[N, pairs, width, 2 * pixel]`."""
        from tvm.script.ir_builder import tirx as T

        batch, row_bytes = int(source.shape[0]), self.width * self.pixel
        rows = T.decl_buffer((batch, self.height, row_bytes), "uint8", data=source.data)
        size = batch * self.count * row_bytes * STACK
        target = T.alloc_buffer((size + STACK * HALF,), "uint8", scope="global")  # see `_row`
        with T.serial(0, batch) as n, T.serial(0, self.count) as pair:
            upper = T.bind(self.first + pair * STACK)
            # Behind the last row of an odd number there is none: its weights are 0.
            lower = T.bind(T.min(upper + 1, self.height - 1))
            place = (n * self.count + pair) * (row_bytes * STACK)
            self._row(rows, (n, upper, lower), target, place)
        shape = (batch, self.count, self.width, STACK * self.pixel)
        return T.decl_buffer(shape, "uint8", data=target.data)

    def _row(self, rows: Any, at: tuple[Any, Any, Any], target: Any, place: Any) -> None:
        """One pair. What a vector stores behind its whole pixels the next one writes again."""
        from tvm.script.ir_builder import tirx as T

        row_bytes, at_once = self.width * self.pixel, HALF // self.pixel * self.pixel
        whole = (row_bytes - HALF) // at_once + 1
        with T.serial(0, whole) as i:
            vector = self._interleaved(rows, at, i * at_once, 0)
            index = T.ramp(place + i * at_once * STACK, 1, STACK * HALF)
            T.buffer_store(target, vector, [index])
        start = whole * at_once
        if start < row_bytes:  # these end with the row, as bytes past it may be nobody's
            last = row_bytes - HALF
            vector = self._interleaved(rows, at, last, start - last)
            T.buffer_store(target, vector, [T.ramp(place + start * STACK, 1, STACK * HALF)])

    def _interleaved(self, rows: Any, at: tuple[Any, Any, Any], start: Any, skipped: int) -> Any:
        """The pixels in HALF bytes from `start` of two rows, in turn; without the first bytes."""
        from tvm.script.ir_builder import tirx as T

        n, upper, lower = at
        halves = [rows[n, row, T.ramp(start, 1, HALF)] for row in (upper, lower)]
        order = []
        for i in range(STACK * HALF):
            pixel, rest = divmod(i, STACK * self.pixel)
            row, byte = divmod(rest, self.pixel)
            order.append(row * HALF + min(skipped + pixel * self.pixel + byte, HALF - 1))
        return T.Shuffle(halves, order)


def paired(plan: Plan, columns: int) -> Plan | None:
    """`plan`, of a kernel of so many columns, on pairs of rows: where that takes fewer products."""
    geometry, pixel = plan.geometry, plan.pixel
    if geometry.stride[0] != STACK or geometry.dilation != (1, 1) or plan.taps != 1:
        return None
    found = replace(
        plan,
        geometry=replace(
            geometry,
            kernel=(-(-geometry.kernel[0] // STACK), 1),
            stride=(1, geometry.stride[1]),
            in_channels=STACK * columns * pixel,
        ),
        pixel=STACK * pixel,
        bytes=STACK * columns * pixel,
    )
    return found if found.products < plan.products else None


def paired_weights(weights: NDArray[np.int32], pixel: int) -> NDArray[np.int32]:
    """`[O, KH, KW, I]` as `[O, pairs, 1, KW * 2 * pixel]`."""
    out, height, columns, inputs = weights.shape
    rest = -height % STACK
    padded = np.pad(weights, ((0, 0), (0, rest), (0, 0), (0, pixel - inputs)))
    split = padded.reshape(out, -1, STACK, columns, pixel).transpose(0, 1, 3, 2, 4)
    return split.reshape(out, (height + rest) // STACK, 1, -1)
