"""Where the pixels of a bit-sliced convolution lie, and what its constants say about them.

A *slice* is a vector of `lanes` 32-bit lanes that holds one bit of as many output pixels as it has
bits. Vector v takes output rows v, v + V, v + 2 V, ..., so that a kernel row further down is
another vector and never a shift: tap row k of vector v reads the image's rows of *band* S v + k
(S the stride), which the next vectors read as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.kernels.geometry import Dense
from mpqdeploy.targets.layout import WORD, words

TOGETHER = 3  # inputs that a table combines
VARIANTS = 1 << TOGETHER  # signs of their weights
UNROLLED = 48  # tables that are added without a loop in between


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`planes`: bits of an activation; `masked`: whether taps outside the image count nothing, as
    those of a bipolar image must."""

    geometry: Dense
    planes: int
    lanes: int
    masked: bool
    size: tuple[int, int]  # of the image, without padding

    # -- pixels ------------------------------------------------------------------------------------

    @property
    def slots(self) -> int:
        """Pixels of a slice."""
        return WORD * self.lanes

    @property
    def pitch(self) -> int:
        """Slots of a row: whole vectors of words."""
        return -(-self.geometry.out_width // self.lanes) * self.lanes

    @property
    def rows(self) -> int:
        """Rows of a slice."""
        return self.slots // self.pitch

    @property
    def vectors(self) -> int:
        """Slices of an image: V."""
        return -(-self.geometry.out_height // max(self.rows, 1))

    @property
    def filled(self) -> float:
        """The part of all slots that are pixels; 0 where a row is longer than a slice."""
        pixels = self.geometry.out_height * self.geometry.out_width
        return pixels / (self.vectors * self.slots) if self.rows else 0.0

    # -- taps --------------------------------------------------------------------------------------

    @property
    def span(self) -> int:
        """Bands that a vector reads."""
        return (self.geometry.kernel[0] - 1) * self.geometry.dilation[0] + 1

    @property
    def fresh(self) -> int:
        """Bands that the next vector reads for the first time."""
        return min(self.geometry.stride[0], self.span)

    @property
    def words(self) -> int:
        return words(self.geometry.in_channels)

    @property
    def blocks(self) -> int:
        """Loops over a kernel row's groups: as few as `UNROLLED` allows."""
        return -(-self._least // max(UNROLLED // (self.geometry.kernel[0] * self.planes), 1))

    @property
    def block(self) -> int:
        """Groups of one such loop."""
        return -(-self._least // self.blocks)

    @property
    def _least(self) -> int:
        """Groups that hold all inputs of a kernel row."""
        return -(-self.geometry.kernel[1] * self.geometry.in_channels // TOGETHER)

    @property
    def groups(self) -> int:
        """Groups of `TOGETHER` inputs (channel, then kernel column) in a kernel row; the last ones
        may be empty."""
        return self.blocks * self.block

    @property
    def channels(self) -> int:
        """Channels that the groups read, of which the last ones may be empty."""
        reached = -(-TOGETHER * self.groups // self.geometry.kernel[1])
        return max(reached, self.words * WORD)

    @property
    def entry(self) -> int:
        """Elements of one group's table: sum and carry of every variant."""
        return VARIANTS * 2 * self.lanes

    @property
    def table(self) -> int:
        """Elements of the tables of all bands that a vector reads."""
        return self.span * self.planes * self.groups * self.entry

    @property
    def most(self) -> int:
        """No count is larger."""
        inputs = self.geometry.taps * self.geometry.in_channels
        return inputs * ((1 << self.planes) - 1)

    @property
    def digits(self) -> int:
        return self.most.bit_length()

    @property
    def columns(self) -> int:
        """Words of a row that some tap reads, for each remainder by the stride."""
        (_, across), (_, step), (_, apart) = (
            self.geometry.kernel,
            self.geometry.stride,
            self.geometry.dilation,
        )
        return self.pitch + (across - 1) * apart // step

    @property
    def lines(self) -> int:
        """Rows of the padded image that outputs read."""
        return (self.geometry.out_height - 1) * self.geometry.stride[0] + self.span

    # -- constants ---------------------------------------------------------------------------------

    def variants(self, weights: NDArray[np.int32]) -> NDArray[np.uint64]:
        """+-1 weights `[O, KH, KW, I]` as `[n, 3]` words of 64 groups: bit i of all their variants.

        Groups in the order in which they are added: output channels > blocks > kernel rows >
        groups. Group g of 64 is bit g // 8 of byte g % 8, which is where a vector of bytes finds
        it after a broadcast.
        """
        out, height = weights.shape[:2]
        inputs = (weights > 0).transpose(0, 1, 3, 2).reshape(out, height, -1)
        missing = TOGETHER * self.groups - inputs.shape[2]
        inputs = np.pad(inputs, ((0, 0), (0, 0), (0, missing)))
        split = inputs.reshape(out, height, self.blocks, self.block, TOGETHER)
        flat = split.transpose(0, 2, 1, 3, 4).reshape(-1, TOGETHER)
        flat = np.pad(flat, ((0, -len(flat) % 64), (0, 0)))
        bits = flat.reshape(-1, 8, 8, TOGETHER).transpose(0, 3, 2, 1)  # [n, 3, byte, bit]
        packed = np.packbits(bits, axis=-1, bitorder="little").reshape(-1, TOGETHER, 8)
        return np.ascontiguousarray(packed).view(np.uint64).reshape(-1, TOGETHER)

    def inside(self) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """Slots whose row is inside the image, by band; whose column is, by kernel column."""
        (top, left, _, _), (down, across) = self.geometry.padding, self.geometry.stride
        row, column = self._place()
        bands = down * (self.vectors - 1) + self.span
        rows = [down * self.vectors * row + band - top for band in range(bands)]
        apart = self.geometry.dilation[1]
        taps = [across * column + tap * apart - left for tap in range(self.geometry.kernel[1])]
        height, width = self.size
        return (
            np.stack([self._sliced((row >= 0) & (row < height)) for row in rows]),
            np.stack([self._sliced((column >= 0) & (column < width)) for column in taps]),
        )

    def outside(self) -> NDArray[np.uint32]:
        """Half the inputs outside the image, `[vectors, digits, lanes]`: what every count starts
        from. A tap outside adds 0 to the sum; half a difference does so, too [o]."""
        rows, columns = self.inside()
        kernel, half = self.geometry.kernel, self.geometry.in_channels / 2
        found = np.zeros((self.vectors, self.digits, self.lanes), np.uint32)
        for vector in range(self.vectors):
            first = self.geometry.stride[0] * vector
            bands = [first + tap * self.geometry.dilation[0] for tap in range(kernel[0])]
            down = sum(self._spread(rows[band]) for band in bands)
            across = sum(self._spread(columns[tap]) for tap in range(kernel[1]))
            missing = np.asarray((kernel[0] * kernel[1] - down * across) * half, np.int64)
            for digit in range(self.digits):
                found[vector, digit] = self._sliced(missing >> digit & 1)
        return found

    def _place(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Row and column of every slot; those past the last row repeat it."""
        slot = np.arange(self.slots)
        return np.minimum(slot // self.pitch, self.rows - 1), slot % self.pitch

    def _sliced(self, slots: NDArray[np.generic]) -> NDArray[np.uint32]:
        """A bit per slot as a slice: slot s is bit s // lanes of lane s % lanes."""
        bits = slots.astype(np.uint64).reshape(WORD, self.lanes)
        worth = np.uint64(1) << np.arange(WORD, dtype=np.uint64)
        return np.asarray((bits * worth[:, None]).sum(axis=0), np.uint32)

    def _spread(self, sliced: NDArray[np.uint32]) -> NDArray[np.int64]:
        """`_sliced`, undone."""
        bits = sliced[None, :] >> np.arange(WORD, dtype=np.uint32)[:, None] & 1
        return bits.astype(np.int64).reshape(-1)
