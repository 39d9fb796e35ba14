"""How a convolution goes through tiles: which pixels share one, and which bytes a product takes.

A tile of activations has neighbouring pixels of an output row as its rows, at a stride that memory
gives for nothing: no copy puts them together. Its bytes are of a *run* of the input: the channels
of one column of a kernel row, or those of all columns, which lie next to each other, where that
takes fewer products. A run is cut into *steps* of equal depth, the last of which may begin inside
the one before it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.kernels.dot_reading import Reading
from mpqdeploy.targets.kernels.geometry import Dense
from mpqdeploy.targets.kernels.register_tiles import AT_HAND, channel_vectors
from mpqdeploy.targets.kernels.tiles.micro import BYTES, GROUP, OUT, ROWS, TILES, Shape
from mpqdeploy.targets.layout import stored_channels


@dataclass(frozen=True, kw_only=True)
class Phases:
    """Images of `size` rows and columns, `count` down and across, into which one is taken apart."""

    stride: tuple[int, int]
    count: tuple[int, int]
    size: tuple[int, int]

    def pixels(self, row: Any, tap: Any) -> Any:
        """From a pixel of the first phase to the one that a tap of its output reads."""
        (down, across), (rows, columns) = self.stride, self.size
        phase = row % down * self.count[1] + tap % across
        return (phase * rows + row // down) * columns + tap // across


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`pixel`: bytes of a pixel of the input; `bytes`: those of a run that are channels.

    `pitch`: None where tiles have pixels of one output row. Else the width of the padded input, in
    whose memory the image is one long row: tiles then have pixels of several rows, and what lies
    between those, and the products of the latter are for nothing (stride 1 only). `phases`: of an
    input that was taken apart, for which the geometry's stride is 1 (`phases.py`).
    """

    geometry: Dense
    pixel: int
    taps: int  # runs of a kernel row
    bytes: int
    pitch: int | None = None
    phases: Phases | None = None

    @classmethod
    def of(cls, reading: Reading) -> Plan:
        geometry = reading.geometry
        channels, columns = geometry.in_channels, geometry.kernel[1]
        pixel = reading.pixel or stored_channels(channels)
        apart = cls(geometry=geometry, pixel=pixel, taps=columns, bytes=channels)
        if geometry.dilation[1] > 1:
            return apart
        together = replace(apart, taps=1, bytes=(columns - 1) * pixel + channels)
        return together if together.products < apart.products else apart

    # -- input -------------------------------------------------------------------------------------

    @property
    def run(self) -> int:
        """Bytes of a run, in whole groups of 4."""
        return -(-self.bytes // GROUP) * GROUP

    @property
    def steps(self) -> int:
        """Products of tiles that a run takes."""
        return -(-self.run // BYTES)

    @property
    def depth(self) -> int:
        """Bytes of a step."""
        return -(-self.run // (GROUP * self.steps)) * GROUP

    @property
    def products(self) -> int:
        """Steps of all runs of the kernel."""
        return self.geometry.kernel[0] * self.taps * self.steps

    @property
    def whole(self) -> bool:
        """Whether every byte that is multiplied is a channel, and none of them twice."""
        channels = self.geometry.in_channels
        dense = self.bytes == self.run == self.steps * self.depth
        return dense and (self.pixel == channels or self.bytes == channels)

    # -- output ------------------------------------------------------------------------------------

    @property
    def length(self) -> int:
        """Pixels of an output row, or of the image as one long row."""
        geometry = self.geometry
        if self.pitch is None:
            return geometry.out_width
        return (geometry.out_height - 1) * self.pitch + geometry.out_width

    @property
    def across(self) -> int:
        """Tiles of a row."""
        return -(-self.length // ROWS)

    @property
    def columns(self) -> int:
        """Pixels of a tile; the last one of a row may begin inside the one before it."""
        return -(-self.length // self.across)

    @property
    def tiles(self) -> int:
        """Tiles of an image, by rows."""
        return self.across * (self.geometry.out_height if self.pitch is None else 1)

    # -- weights -----------------------------------------------------------------------------------

    def weights(self, weights: NDArray[np.int32], vectors: int) -> NDArray[np.int32]:
        """`[O, KH, KW, I]` (or, by kernel rows, `[O, KH, 1, I]`) as `[O tiles, codes]`.

        A tile of `vectors` vectors of output channels has, for every kernel row, run and step, its
        vectors' tiles of weights: `[depth / 4, 16 channels, 4]`. 0 where a byte is no channel, or
        where an earlier step has multiplied it.
        """
        out, height, _, inputs = weights.shape
        if inputs < self.pixel:
            weights = np.pad(weights, ((0, 0),) * 3 + ((0, self.pixel - inputs),))
        runs = weights.reshape(out, height, self.taps, -1)[..., : self.run]
        runs = np.pad(runs, ((0, 0),) * 3 + ((0, self.run - runs.shape[-1]),))
        steps = np.zeros((out, height, self.taps, self.steps, self.depth), np.int32)
        for step in range(self.steps):
            first, start = step * self.depth, self.start(step)
            steps[..., step, first - start :] = runs[..., first : start + self.depth]
        tiles = channel_vectors(out, OUT) // vectors
        missing = tiles * vectors * OUT - out
        padded = np.pad(steps, ((0, missing),) + ((0, 0),) * 4)
        split = padded.reshape(tiles, vectors, OUT, -1, self.depth // GROUP, GROUP)
        return np.ascontiguousarray(split.transpose(0, 3, 1, 4, 2, 5)).reshape(tiles, -1)

    def start(self, step: int) -> int:
        """The first byte of a step in its run."""
        return min(step * self.depth, self.run - self.depth)


@dataclass(frozen=True)
class Blocking:
    """Sums that are held in tiles: of `pixels` tiles of pixels by `vectors` of output channels.

    Besides, one tile holds activations, and as many as are needed again hold weights: no more than
    that. Tiles are renamed while products are under way, and where another thread of the core uses
    tiles, there are hardly more than eight for both: with all eight in use, products of this thread
    then wait for each other (30 ns each; 20 with seven, 14 with four; alone 7 whatever the number)
    [o].

    `apart`: the vectors' sums are made one after the other, in the same tiles, and stored together.
    """

    pixels: int
    vectors: int
    apart: bool = False

    @property
    def at_once(self) -> int:
        """Vectors whose sums are made at once."""
        return 1 if self.apart else self.vectors

    @property
    def sums(self) -> int:
        return self.pixels * self.at_once

    @property
    def weights(self) -> int:
        return self.at_once if self.pixels > 1 else 1

    @property
    def tiles(self) -> int:
        """In use."""
        return self.sums + 1 + self.weights

    @property
    def fits(self) -> bool:
        """Whether there are so many."""
        return self.tiles <= TILES

    def blocks(self, plan: Plan) -> int:
        """Blocks of pixel tiles of all images. An image that is one long row is a block, which is
        gone through in `passes`."""
        return plan.geometry.batch * (-(-plan.tiles // self.pixels) if plan.pitch is None else 1)

    def channel_tiles(self, plan: Plan) -> int:
        """Tiles of `vectors` vectors of output channels."""
        return channel_vectors(plan.geometry.out_channels, OUT) // self.vectors

    def channels_inside(self, plan: Plan) -> bool:
        """Whether a block of pixels meets all output channels before the next one does: what it
        writes is then written to whole cache lines, once, and its input is at hand. The weights
        must be, too."""
        tiles = self.channel_tiles(plan)
        size = plan.products * plan.depth * tiles * self.vectors * OUT
        return tiles > 1 and self.blocks(plan) > 1 and size <= AT_HAND

    def passes(self, plan: Plan) -> int:
        """Times that a turn goes through pixels of its block."""
        return 1 if plan.pitch is None else -(-plan.tiles // self.pixels)

    def uses(self, plan: Plan) -> int:
        """Times that weights of a tile of output channels are gone through."""
        return self.blocks(plan) * self.passes(plan) * (self.vectors // self.at_once)

    def shape(self, plan: Plan) -> Shape:
        return Shape(pixels=plan.columns, depth=plan.depth, sums=self.sums, weights=self.weights)
