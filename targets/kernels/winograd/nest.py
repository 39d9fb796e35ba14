"""The loops of a minimal-filtering convolution: three phases over chunks of tiles.

chunks of tiles (one chunk's transformed inputs stay in the second-level cache)
    > 1. inputs: every tile's (m + 2)^2 transformed pixels, to scratch
    > output-channel tiles (weights restored and transformed once, to scratch)
        > blocks of tiles > 2. products: for every component, accumulators in registers over the
          input channels > 3. outputs: m x m sums per tile and vector of channels, to the epilogue
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any

from mpqdeploy.targets.kernels.dot_inner import GROUP, Micro
from mpqdeploy.targets.kernels.flush import Outlet, Store
from mpqdeploy.targets.kernels.packing import Weights
from mpqdeploy.targets.kernels.register_tiles import channel_vectors
from mpqdeploy.targets.kernels.shares import Share
from mpqdeploy.targets.kernels.winograd.filtering import TAPS, Matrix
from mpqdeploy.targets.kernels.winograd.plan import Plan
from mpqdeploy.targets.kernels.winograd.transform import both_ways, divided

VECTOR = 64  # bytes that one transform step handles; LLVM splits it where registers are shorter


@dataclass(frozen=True, kw_only=True, eq=False)
class Arguments:
    """The buffers that the nest's owner declared.

    `source`: the input's bytes, with `origin` (see `Dense.origin`); `added`: the `corrections`,
    channels padded to whole vectors; `offsets`: see `Filtering.offsets`; `divided`: whether the
    epilogue's scales undo the filtering's divisor.
    """

    source: Any
    origin: tuple[int, int]
    added: Any
    offsets: Matrix
    weights: Weights
    divided: bool


def emit_nest(
    plan: Plan,
    micro: Micro,
    arguments: Arguments,
    together: int | None,
    store: Store,
    outlet: Outlet,
    share: Share,
) -> None:
    """Emits the loops, over a share of the chunks. `store` takes the accumulators to `outlet`.

    `together`: vectors of weights that are restored from one packed unit, in registers; None where
    the weights are restored to scratch.
    """
    from tvm.script.ir_builder import tirx as T

    input_shape = (plan.blocks_per_chunk, plan.components, plan.input_stride)
    inputs = T.alloc_buffer(input_shape, "uint8", scope="global")
    weight_shape = (plan.components, plan.weight_stride)
    transformed = T.alloc_buffer(weight_shape, "int8", scope="global")
    sum_shape = (plan.components, plan.tile.registers, plan.lanes)
    sums = T.alloc_buffer(sum_shape, "int32", scope="global")
    prepare = _Inputs(plan, arguments, inputs)
    restore = _Weights(plan, arguments.weights, together, transformed)
    products = _Products(plan, micro, arguments.weights, inputs, transformed, sums)
    outputs = _Outputs(plan, sums, arguments, store, outlet)
    arguments.weights.allocate()
    channel_tiles = channel_vectors(plan.geometry.out_channels, plan.lanes) // plan.tile.vectors
    with T.serial(0, plan.geometry.batch) as n, share.loop(plan.chunks) as chunk:
        prepare.emit(n, chunk)
        with T.serial(0, channel_tiles) as o:
            restore.emit(o)
            with T.serial(0, plan.blocks_per_chunk) as b:
                block = chunk * plan.blocks_per_chunk + b
                with _when(block < plan.blocks, plan.blocks % plan.blocks_per_chunk):
                    products.emit(b)
                    outputs.emit(o, n, block)


def _when(condition: Any, needed: object) -> AbstractContextManager[Any]:
    """The block under `condition`, which is left out where it is not `needed`."""
    from tvm.script.ir_builder import tirx as T

    stack = ExitStack()
    if needed:
        stack.enter_context(T.If(condition))
        stack.enter_context(T.Then())
    return stack


class _Inputs:
    """Phase 1: the transformed pixels of a chunk's tiles, unsigned bytes by their offsets."""

    def __init__(self, plan: Plan, arguments: Arguments, inputs: Any) -> None:
        self._plan, self._arguments, self._inputs = plan, arguments, inputs

    def emit(self, n: Any, chunk: Any) -> None:
        from tvm.script.ir_builder import tirx as T

        plan = self._plan
        lanes = next(size for size in (VECTOR, 32, 16, 4) if plan.channels % size == 0)
        each = plan.blocks_per_chunk * plan.tile.tiles
        with T.serial(0, each) as t:
            tile = chunk * each + t
            with (
                _when(tile < plan.tiles, each * plan.chunks != plan.tiles),
                T.serial(0, plan.channels // lanes) as c,
            ):
                self._transform(n, tile, t, c * lanes, lanes)

    def _transform(self, n: Any, tile: Any, t: Any, channel: Any, lanes: int) -> None:
        from tvm.script.ir_builder import tirx as T

        plan, filtering, given = self._plan, self._plan.filtering, self._arguments
        top = T.floordiv(tile, plan.across) * filtering.m + given.origin[0]
        left = T.floormod(tile, plan.across) * filtering.m + given.origin[1]
        index = T.ramp(channel, 1, lanes)
        pixels = [
            [given.source[n, top + y, left + x, index] for x in range(filtering.n)]
            for y in range(filtering.n)
        ]
        found = both_ways(filtering.inputs, pixels, f"uint8x{lanes}")
        b, p = T.floordiv(t, plan.tile.tiles), T.floormod(t, plan.tile.tiles)
        at = T.ramp(p * plan.channels + channel, 1, lanes)
        for component in range(plan.components):
            row, column = divmod(component, filtering.n)
            offset = T.broadcast(T.uint8(int(given.offsets[row, column])), lanes)
            T.buffer_store(self._inputs, found[row][column] + offset, [b, component, at])


class _Weights:
    """The transformed weights of an output-channel tile: every lane a 3 x 3 filter."""

    def __init__(
        self, plan: Plan, weights: Weights, together: int | None, transformed: Any
    ) -> None:
        self._plan, self._weights, self._transformed = plan, weights, transformed
        self._together = together

    def emit(self, o: Any) -> None:
        from tvm.script.ir_builder import tirx as T

        plan, filtering = self._plan, self._plan.filtering
        runs = self._together or 1
        self._weights.unpack(o)
        with T.serial(0, plan.weight_vectors // runs) as unit:
            for run in range(runs):
                taps = [
                    [self._tap(y * TAPS + x, unit, run) for x in range(TAPS)] for y in range(TAPS)
                ]
                found = both_ways(filtering.weights, taps, f"int8x{plan.codes}")
                at = T.ramp((unit * runs + run) * plan.codes, 1, plan.codes)
                for component in range(plan.components):
                    row, column = divmod(component, filtering.n)
                    T.buffer_store(self._transformed, found[row][column], [component, at])

    def _tap(self, tap: int, unit: Any, run: int) -> Any:
        """Vector `run` of the `unit`-th unit of one tap's codes."""
        plan, codes = self._plan, self._plan.codes
        if self._together is None:
            return self._weights.load((tap * plan.weight_vectors + unit) * codes, codes)
        units = plan.weight_vectors // self._together
        return self._weights.load_unit(tap * units + unit, run * codes, codes)


class _Products:
    """Phase 2: sums over input channels, one component of a block of tiles at a time."""

    def __init__(
        self, plan: Plan, micro: Micro, packed: Weights, inputs: Any, weights: Any, sums: Any
    ) -> None:
        from tvm.script.ir_builder import tirx as T

        self._plan, self._micro, self._packed = plan, micro, packed
        self._inputs, self._weights, self._sums = inputs, weights, sums
        # One buffer per vector: LLVM keeps these in registers, and does not with one for all.
        self._accs = [
            T.alloc_buffer((plan.lanes,), "int32", scope="global")
            for _ in range(plan.tile.registers)
        ]

    def emit(self, b: Any) -> None:
        from tvm.script.ir_builder import tirx as T

        plan = self._plan
        index = T.ramp(0, 1, plan.lanes)
        with T.serial(0, plan.components) as k:
            share = b * plan.components + k
            self._packed.prefetch(share, plan.blocks_per_chunk * plan.components)
            for acc in self._accs:
                T.buffer_store(acc, T.broadcast(T.int32(0), plan.lanes), [index])
            with T.serial(0, plan.groups) as g:
                for p in range(plan.tile.tiles):
                    self._multiply(b, k, g, p)
            for number, acc in enumerate(self._accs):
                T.buffer_store(self._sums, acc[index], [k, number, index])

    def _multiply(self, b: Any, k: Any, g: Any, p: int) -> None:
        """One group of a tile's channels, by all vectors of output channels."""
        from tvm.script.ir_builder import tirx as T

        plan, vectors = self._plan, self._plan.tile.vectors
        index = T.ramp(0, 1, plan.lanes)
        word = self._inputs[b, k, T.ramp(p * plan.channels + g * GROUP, 1, GROUP)]
        word = T.reinterpret("int32", word)
        for vector in range(vectors):
            load = self._loader(k, (g * vectors + vector) * plan.codes)
            acc = self._accs[p * vectors + vector]
            T.buffer_store(acc, self._micro.multiply(acc[index], word, load), [index])

    def _loader(self, k: Any, first: Any) -> Callable[[int, int], Any]:
        from tvm.script.ir_builder import tirx as T

        return lambda start, count: self._weights[k, T.ramp(first + start, 1, count)]


class _Outputs:
    """Phase 3: m x m accumulators of every tile of a block, handed to the epilogue."""

    def __init__(
        self, plan: Plan, sums: Any, arguments: Arguments, store: Store, outlet: Outlet
    ) -> None:
        from tvm.script.ir_builder import tirx as T

        self._plan, self._sums, self._arguments = plan, sums, arguments
        self._store, self._outlet = store, outlet
        shape = (plan.filtering.m**2, plan.tile.vectors, plan.lanes)
        self._pixels = T.alloc_buffer(shape, "int32", scope="global")

    def emit(self, o: Any, n: Any, block: Any) -> None:
        from tvm.script.ir_builder import tirx as T

        plan, tile = self._plan, self._plan.tile
        with T.serial(0, tile.tiles) as p:
            number = block * tile.tiles + p
            with _when(number < plan.tiles, plan.blocks * tile.tiles != plan.tiles):
                top = T.floordiv(number, plan.across) * plan.filtering.m
                left = T.floormod(number, plan.across) * plan.filtering.m
                for vector in range(tile.vectors):
                    self._transform(p * tile.vectors + vector, o, vector)
                self._flush(o, n, top, left)

    def _transform(self, number: Any, o: Any, vector: int) -> None:
        from tvm.script.ir_builder import tirx as T

        filtering, lanes = self._plan.filtering, self._plan.lanes
        index, n, m = T.ramp(0, 1, lanes), filtering.n, filtering.m
        channels = T.ramp(self._channel(o, vector), 1, lanes)
        sums = [
            [self._sums[row * n + column, number, index] for column in range(n)] for row in range(n)
        ]
        found = both_ways(filtering.outputs, sums, f"int32x{lanes}")
        for pixel in range(m * m):
            value = found[pixel // m][pixel % m] + self._arguments.added[pixel, channels]
            if not self._arguments.divided:
                value = divided(value, filtering, lanes)
            T.buffer_store(self._pixels, value, [pixel, vector, index])

    def _flush(self, o: Any, n: Any, top: Any, left: Any) -> None:
        """In a loop: the epilogue's code is emitted once, for a row of the tile or for a pixel."""
        from tvm.script.ir_builder import tirx as T

        plan, m = self._plan, self._plan.filtering.m
        height, width = plan.geometry.out_height, plan.geometry.out_width
        columns = 1 if width % m else m
        with T.serial(0, m) as i, T.serial(0, m // columns) as j:
            inside = T.And(top + i < height, left + j < width)
            with _when(inside, height % m or width % m), self._outlet.together():
                for column in range(columns):
                    self._pixel(o, (n, top, left), i, j * columns + column)

    def _pixel(self, o: Any, corner: tuple[Any, Any, Any], row: Any, column: Any) -> None:
        from tvm.script.ir_builder import tirx as T

        (n, top, left), m, lanes = corner, self._plan.filtering.m, self._plan.lanes
        for vector in range(self._plan.tile.vectors):
            acc = self._pixels[row * m + column, vector, T.ramp(0, 1, lanes)]
            self._store(acc, n, top + row, left + column, self._channel(o, vector))

    def _channel(self, o: Any, vector: int) -> Any:
        """The first channel of a vector of tile `o`."""
        return (o * self._plan.tile.vectors + vector) * self._plan.lanes
