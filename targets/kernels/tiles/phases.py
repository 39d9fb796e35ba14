"""Phases: an image that a convolution goes through in strides, taken apart into images of stride 1.

Where an output row is short, an image of stride 1 is one long row, which fills the tiles that its
rows would not. Under a stride the pixels of a tile have others between them, and those of the next
row are elsewhere. Taken apart by row and column modulo the stride, an image is several smaller
ones, in each of which the pixels that a tap reads lie side by side, row after row. The copy takes
1 us of a padded image of 16 x 16 x 256, and saves three tiles of seven [o].
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import gcd
from typing import Any

from mpqdeploy.targets.kernels.packing import VECTOR_BYTES
from mpqdeploy.targets.kernels.tiles.plan import Phases, Plan


def apart(plan: Plan) -> Plan | None:
    """`plan`, of an input that is taken apart, each phase one long row; None where there is no
    stride, or where the columns of a kernel row are read together."""
    geometry, stride = plan.geometry, plan.geometry.stride
    plain = geometry.dilation == (1, 1) and plan.taps == geometry.kernel[1]
    if stride == (1, 1) or not plain:
        return None
    (rows, columns), (height, width) = geometry.kernel, (geometry.out_height, geometry.out_width)
    phases = Phases(
        stride=stride,
        count=(min(stride[0], rows), min(stride[1], columns)),
        size=(height + (rows - 1) // stride[0], width + (columns - 1) // stride[1]),
    )
    flat = replace(geometry, stride=(1, 1))
    return replace(plan, geometry=flat, pitch=phases.size[1], phases=phases)


@dataclass(frozen=True)
class TakenApart:
    """The input of a convolution: `origin` is where a padded one has the first tap of the first
    output, `pixel` its bytes of a pixel."""

    phases: Phases
    origin: tuple[int, int]
    pixel: int

    def copied(self, source: Any) -> Any:
        """Emits the copy of a padded input; the buffer `[N, phases * rows, columns, pixel]`."""
        from tvm.script.ir_builder import tirx as T

        batch, height, width, _ = (int(extent) for extent in source.shape)
        (down, across), (rows, columns) = self.phases.count, self.phases.size
        shape = (batch, down * across * rows, columns, self.pixel)
        target = T.alloc_buffer(shape, "uint8", scope="global")
        lanes = gcd(VECTOR_BYTES, self.pixel)
        with (
            T.serial(0, batch) as n,
            T.serial(0, down) as i,
            T.serial(0, across) as j,
            T.serial(0, rows) as row,
            T.serial(0, columns) as column,
        ):
            # Behind the last pixel there is none, for products that are for nothing.
            y = T.bind(T.min(self.origin[0] + i + row * self.phases.stride[0], height - 1))
            x = T.bind(T.min(self.origin[1] + j + column * self.phases.stride[1], width - 1))
            place = (n, (i * across + j) * rows + row, column)
            for byte in range(0, self.pixel, lanes):
                index = T.ramp(byte, 1, lanes)
                T.buffer_store(target, source[n, y, x, index], [*place, index])
        return target
