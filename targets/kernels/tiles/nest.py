"""The loops of a convolution by tiles.

tiles of output channels (weights made ready once) > images > blocks of pixel tiles
    > sums in tiles: kernel rows > runs > steps
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mpqdeploy.targets.kernels.flush import Block, Flush, Outlet, Store
from mpqdeploy.targets.kernels.nest import channel_vectors
from mpqdeploy.targets.kernels.packing import Weights
from mpqdeploy.targets.kernels.shares import WHOLE, Share
from mpqdeploy.targets.kernels.spans import cut
from mpqdeploy.targets.kernels.tiles.micro import (
    BYTES,
    GROUP,
    OUT,
    ROWS,
    TILES,
    Memory,
    Micro,
    Shape,
)
from mpqdeploy.targets.kernels.tiles.plan import Plan


@dataclass(frozen=True)
class Blocking:
    """Sums that are held in tiles: of `pixels` tiles of pixels by `vectors` of output channels."""

    pixels: int
    vectors: int

    @property
    def sums(self) -> int:
        return self.pixels * self.vectors

    @property
    def inputs(self) -> int:
        """Tiles of activations; the others have weights."""
        return (TILES - self.sums) // 2

    def shape(self, plan: Plan) -> Shape:
        return Shape(pixels=plan.columns, depth=plan.depth, sums=self.sums, inputs=self.inputs)


class TileNest:
    """Emits the loops; its owner declares the buffers."""

    def __init__(self, plan: Plan, micro: Micro, blocking: Blocking, weights: Weights) -> None:
        self._plan = plan
        self._micro = micro
        self._blocking = blocking
        self._weights = weights
        self._source: Any = None
        self._start: Any = None
        self._sums: Any = None

    def bind(self, source: Any, start: Any) -> None:
        """`source`: the input; `start`: what accumulators start at, per output channel."""
        self._source, self._start = source, start

    def emit(
        self, origin: tuple[int, int], store: Store, outlet: Outlet, share: Share = WHOLE
    ) -> None:
        """`origin`: see `Dense.origin`. `store` takes the sums to `outlet`."""
        from tvm.script.ir_builder import tirx as T

        plan, blocking = self._plan, self._blocking
        self._weights.allocate()
        shape = (blocking.pixels, ROWS * blocking.vectors, OUT)
        self._sums = T.alloc_buffer(shape, "int32", scope="global")
        flush = Flush(
            vectors=blocking.vectors, lanes=OUT, sums=self._sums, store=store, outlet=outlet
        )
        tiles = channel_vectors(plan.geometry.out_channels, OUT) // blocking.vectors
        over_tiles, over_blocks = self._divided(share, tiles, outlet.unit)
        with over_tiles.loop(tiles) as o:
            self._weights.unpack(o)
            with T.serial(0, plan.geometry.batch) as n:
                for span in cut(plan.tiles, blocking.pixels):
                    with over_blocks.loop(span.count) as i:
                        first = span.start + i * span.step
                        self._accumulate(origin, o, n, first, span.step)
                        with T.serial(0, span.step) as k:
                            y, x = self._place(first + k)
                            flush.emit(o, Block(n, y, x, first, 1, plan.columns), k)

    def _divided(self, share: Share, tiles: int, unit: int) -> tuple[Share, Share]:
        """See `RegisterNest._divided`."""
        blocks = self._plan.tiles // self._blocking.pixels
        apart = self._blocking.vectors * OUT % unit == 0
        if apart and share.evenness(tiles) >= share.evenness(max(blocks, 1)):
            return share, WHOLE
        return WHOLE, share

    def _place(self, tile: Any) -> tuple[Any, Any]:
        """The first output pixel of a tile."""
        from tvm.script.ir_builder import tirx as T

        plan = self._plan
        if plan.across == 1:
            return tile, 0
        y, x = T.floordiv(tile, plan.across), T.floormod(tile, plan.across) * plan.columns
        last = plan.geometry.out_width - plan.columns
        return y, x if plan.geometry.out_width % plan.columns == 0 else T.min(x, last)

    def _accumulate(self, origin: tuple[int, int], o: Any, n: Any, first: Any, pixels: int) -> None:
        """The sums of `pixels` tiles from the `first` on, to scratch."""
        from tvm.script.ir_builder import tirx as T

        plan, vectors, micro = self._plan, self._blocking.vectors, self._micro
        geometry = plan.geometry
        for vector in range(vectors):
            at = Memory(self._start, (o * vectors + vector) * OUT * 4)
            for k in range(pixels):
                micro.load(k * vectors + vector, at, 0)
        inputs = [self._input(origin, n, first + k) for k in range(pixels)]
        with (
            T.serial(0, geometry.kernel[0]) as row,
            T.serial(0, plan.taps) as tap,
            T.serial(0, plan.steps) as step,
        ):
            number = (row * plan.taps + tap) * plan.steps + step
            total = max(plan.tiles // self._blocking.pixels, 1) * plan.products
            block = T.floordiv(first, self._blocking.pixels)
            self._weights.prefetch(block * plan.products + number, total)
            self._step(inputs, self._within(row, tap, step), number)
        for vector in range(vectors):
            for k in range(pixels):
                at = Memory(self._sums, (k * ROWS * vectors + vector) * BYTES)
                micro.store(k * vectors + vector, at, vectors * BYTES)

    def _step(self, inputs: list[Memory], within: Any, number: Any) -> None:
        blocking, micro = self._blocking, self._micro
        across = self._plan.geometry.stride[1] * self._plan.pixel
        held = blocking.sums + blocking.inputs
        for vector in range(blocking.vectors):
            if vector < TILES - held:
                micro.load(held + vector, self._weight(number, vector), BYTES)
        for k, memory in enumerate(inputs):
            activations = blocking.sums + k % blocking.inputs
            micro.load(activations, memory.at(within), across)
            for vector in range(blocking.vectors):
                tile = held + vector % (TILES - held)
                if vector >= TILES - held:
                    micro.load(tile, self._weight(number, vector), BYTES)
                micro.multiply(k * blocking.vectors + vector, activations, tile)

    def _weight(self, number: Any, vector: int) -> Memory:
        size = self._plan.depth // GROUP * BYTES
        codes, first = self._weights.codes()
        return Memory(codes, first + (number * self._blocking.vectors + vector) * size)

    def _input(self, origin: tuple[int, int], n: Any, tile: Any) -> Memory:
        """Where a tile's first pixel has its first tap."""
        geometry, pixel = self._plan.geometry, self._plan.pixel
        _, height, width, *_ = (int(extent) for extent in self._source.shape)
        y, x = self._place(tile)
        row, column = y * geometry.stride[0] + origin[0], x * geometry.stride[1] + origin[1]
        return Memory(self._source, ((n * height + row) * width + column) * pixel)

    def _within(self, row: Any, tap: Any, step: Any) -> Any:
        """Bytes from a pixel's first tap to a step's."""
        from tvm.script.ir_builder import tirx as T

        plan = self._plan
        width = int(self._source.shape[2])
        start = step * plan.depth
        if plan.steps * plan.depth > plan.run:
            start = T.min(start, plan.run - plan.depth)
        down, across = plan.geometry.dilation
        return (row * down * width + tap * across) * plan.pixel + start
