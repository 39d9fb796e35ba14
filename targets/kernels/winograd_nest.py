"""The loops of a minimal-filtering convolution: three phases over chunks of tiles.

chunks of tiles (one chunk's transformed inputs stay in the second-level cache)
    > 1. inputs: every tile's (m + 2)^2 transformed pixels, to scratch
    > output-channel tiles (weights restored and transformed once, to scratch)
        > blocks of tiles > 2. products: for every component, accumulators in registers over the
          input channels > 3. outputs: m x m sums per tile and vector of channels, to the epilogue
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any

from mpqdeploy.targets.kernels.dot_inner import GROUP, Micro
from mpqdeploy.targets.kernels.geometry import Dense
from mpqdeploy.targets.kernels.nest import Store, channel_vectors
from mpqdeploy.targets.kernels.packing import Weights
from mpqdeploy.targets.kernels.winograd_maths import TAPS, Filtering, Matrix
from mpqdeploy.targets.layout import stored_channels

CHUNK_BYTES = 400_000  # of transformed inputs: with the weights' tile, within a 1 MiB cache
VECTOR = 64  # bytes that one transform step handles; LLVM splits it where registers are shorter


@dataclass(frozen=True, kw_only=True)
class WinogradTile:
    """Accumulators in registers: `tiles` tiles of the image by `vectors` of output channels."""

    tiles: int
    vectors: int


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How an image is cut: `across` x `down` tiles, in blocks, in chunks of blocks."""

    across: int
    down: int
    blocks: int
    per_chunk: int  # blocks

    @classmethod
    def of(cls, geometry: Dense, filtering: Filtering, tiles: int) -> Tiling:
        across = -(-geometry.out_width // filtering.m)
        down = -(-geometry.out_height // filtering.m)
        blocks = -(-across * down // tiles)
        block_bytes = tiles * filtering.n**2 * stored_channels(geometry.in_channels)
        chunks = -(-blocks // max(CHUNK_BYTES // block_bytes, 1))
        return cls(across=across, down=down, blocks=blocks, per_chunk=-(-blocks // chunks))

    @property
    def tiles(self) -> int:
        return self.across * self.down

    @property
    def chunks(self) -> int:
        return -(-self.blocks // self.per_chunk)


class WinogradNest:
    """Emits the loops; its owner declares the buffers and says where accumulators go."""

    def __init__(
        self,
        geometry: Dense,
        filtering: Filtering,
        tile: WinogradTile,
        micro: Micro,
        weights: Weights,
        offsets: Matrix,
        together: int | None = None,
    ) -> None:
        """`offsets`: see `Filtering.offsets`. `together`: vectors of weights that are restored
        from one packed unit, in registers; None where `weights` restores a tile to scratch."""
        self._geometry = geometry
        self._filtering = filtering
        self._tile = tile
        self._micro = micro
        self._weights = weights
        self._together = together or 1
        self._offsets = offsets
        self._lanes = micro.isa.lanes
        self._tiling = Tiling.of(geometry, filtering, tile.tiles)
        self._channels = stored_channels(geometry.in_channels)
        self._groups = -(-geometry.in_channels // GROUP)

    @property
    def _components(self) -> int:
        return self._filtering.n**2

    @property
    def _input_stride(self) -> int:
        """Bytes from one component of a block's inputs to the next."""
        return _unaliased(self._tile.tiles * self._channels)

    @property
    def _weight_stride(self) -> int:
        """Bytes from one component of a tile's weights to the next."""
        return _unaliased(self._groups * self._tile.vectors * self._lanes * GROUP)

    @property
    def scratch_bytes(self) -> int:
        """Of transformed inputs, transformed weights, and sums before the output transform."""
        inputs = self._tiling.per_chunk * self._input_stride
        sums = self._tile.tiles * self._tile.vectors * self._lanes * 4
        return self._components * (inputs + self._weight_stride + sums)

    def emit(self, source: Any, origin: tuple[int, int], added: Any, store: Store) -> None:
        """`source`: the bytes buffer; `origin`: see `Dense.origin`; `added`: the `corrections`,
        channels padded to whole vectors."""
        from tvm.script.ir_builder import tirx as T

        tile, tiling, lanes = self._tile, self._tiling, self._lanes
        shape = (tiling.per_chunk, self._components, self._input_stride)
        inputs = T.alloc_buffer(shape, "uint8", scope="global")
        shape = (self._components, self._weight_stride)
        weights = T.alloc_buffer(shape, "int8", scope="global")
        shape = (self._components, tile.tiles * tile.vectors, lanes)
        sums = T.alloc_buffer(shape, "int32", scope="global")
        products = _Products(self, inputs, weights, sums)
        outputs = _Outputs(self, sums, added, store)
        self._weights.allocate()
        channel_tiles = channel_vectors(self._geometry.out_channels, lanes) // tile.vectors
        with T.serial(0, self._geometry.batch) as n, T.serial(0, tiling.chunks) as chunk:
            self._transform_inputs(source, origin, inputs, n, chunk)
            with T.serial(0, channel_tiles) as o:
                self._weights.unpack(o)
                self._transform_weights(weights)
                with T.serial(0, tiling.per_chunk) as b:
                    block = chunk * tiling.per_chunk + b
                    with self._when(block < tiling.blocks, tiling.blocks % tiling.per_chunk):
                        products.emit(b)
                        outputs.emit(o, n, block)

    @staticmethod
    def _when(condition: Any, needed: object) -> AbstractContextManager[Any]:
        from tvm.script.ir_builder import tirx as T

        stack = ExitStack()
        if needed:
            stack.enter_context(T.If(condition))
            stack.enter_context(T.Then())
        return stack

    def _transform_inputs(
        self, source: Any, origin: tuple[int, int], inputs: Any, n: Any, chunk: Any
    ) -> None:
        from tvm.script.ir_builder import tirx as T

        tiling, filtering = self._tiling, self._filtering
        lanes = next(size for size in (VECTOR, 32, 16) if self._channels % size == 0)
        each = tiling.per_chunk * self._tile.tiles
        with T.serial(0, each) as t:
            tile = chunk * each + t
            with (
                self._when(tile < tiling.tiles, each * tiling.chunks != tiling.tiles),
                T.serial(0, self._channels // lanes) as c,
            ):
                index = T.ramp(c * lanes, 1, lanes)
                top = T.floordiv(tile, tiling.across) * filtering.m + origin[0]
                left = T.floormod(tile, tiling.across) * filtering.m + origin[1]
                pixels = [
                    [source[n, top + y, left + x, index] for x in range(filtering.n)]
                    for y in range(filtering.n)
                ]
                found = _both_ways(filtering.inputs, pixels, f"uint8x{lanes}")
                b, p = T.floordiv(t, self._tile.tiles), T.floormod(t, self._tile.tiles)
                for row in range(filtering.n):
                    for column in range(filtering.n):
                        offset = T.broadcast(T.uint8(int(self._offsets[row, column])), lanes)
                        component = row * filtering.n + column
                        value = found[row][column] + offset
                        at = T.ramp(p * self._channels + c * lanes, 1, lanes)
                        T.buffer_store(inputs, value, [b, component, at])

    def _transform_weights(self, transformed: Any) -> None:
        """The current tile's codes, each vector of them a 3 x 3 filter per lane."""
        from tvm.script.ir_builder import tirx as T

        filtering, codes = self._filtering, self._lanes * GROUP
        vectors = self._groups * self._tile.vectors
        runs = self._together
        with T.serial(0, vectors // runs) as unit:
            for run in range(runs):
                index = unit * runs + run
                taps = [
                    [self._tap(y * TAPS + x, unit, run, vectors) for x in range(TAPS)]
                    for y in range(TAPS)
                ]
                found = _both_ways(filtering.weights, taps, f"int8x{codes}")
                for component in range(self._components):
                    value = found[component // filtering.n][component % filtering.n]
                    at = T.ramp(index * codes, 1, codes)
                    T.buffer_store(transformed, value, [component, at])

    def _tap(self, tap: int, unit: Any, run: int, vectors: int) -> Any:
        """Vector `run` of the `unit`-th unit of one tap's codes."""
        codes = self._lanes * GROUP
        if self._together == 1:
            return self._weights.load((tap * vectors + unit) * codes, codes)
        return self._weights.load_unit(tap * (vectors // self._together) + unit, run * codes, codes)


class _Products:
    """Phase 2: sums over input channels, one component of a block of tiles at a time."""

    def __init__(self, nest: WinogradNest, inputs: Any, weights: Any, sums: Any) -> None:
        from tvm.script.ir_builder import tirx as T

        self._nest = nest
        self._inputs, self._weights, self._sums = inputs, weights, sums
        number = nest._tile.tiles * nest._tile.vectors
        self._accs = [
            T.alloc_buffer((nest._lanes,), "int32", scope="global") for _ in range(number)
        ]

    def emit(self, b: Any) -> None:
        from tvm.script.ir_builder import tirx as T

        nest = self._nest
        tile, lanes, codes = nest._tile, nest._lanes, nest._lanes * GROUP
        index = T.ramp(0, 1, lanes)
        with T.serial(0, nest._components) as k:
            done = b * nest._components + k
            nest._weights.prefetch(done, nest._tiling.per_chunk * nest._components)
            for acc in self._accs:
                T.buffer_store(acc, T.broadcast(T.int32(0), lanes), [index])
            with T.serial(0, nest._groups) as g:
                for p in range(tile.tiles):
                    word = self._inputs[b, k, T.ramp(p * nest._channels + g * GROUP, 1, GROUP)]
                    word = T.reinterpret("int32", word)
                    for vector in range(tile.vectors):
                        first = (g * tile.vectors + vector) * codes
                        acc = self._accs[p * tile.vectors + vector]
                        total = nest._micro.multiply(acc[index], word, self._loader(k, first))
                        T.buffer_store(acc, total, [index])
            for number, acc in enumerate(self._accs):
                T.buffer_store(self._sums, acc[index], [k, number, index])

    def _loader(self, k: Any, first: Any) -> Callable[[int, int], Any]:
        from tvm.script.ir_builder import tirx as T

        return lambda start, count: self._weights[k, T.ramp(first + start, 1, count)]


class _Outputs:
    """Phase 3: m x m accumulators of every tile of a block, handed to the epilogue."""

    def __init__(self, nest: WinogradNest, sums: Any, added: Any, store: Store) -> None:
        from tvm.script.ir_builder import tirx as T

        self._nest = nest
        self._sums = sums
        self._added = added
        self._store = store
        m = nest._filtering.m
        self._pixels = T.alloc_buffer((m * m, nest._lanes), "int32", scope="global")

    def emit(self, o: Any, n: Any, block: Any) -> None:
        from tvm.script.ir_builder import tirx as T

        nest = self._nest
        tile, tiling = nest._tile, nest._tiling
        with T.serial(0, tile.tiles) as p:
            number = block * tile.tiles + p
            whole = tiling.blocks * tile.tiles == tiling.tiles
            with nest._when(number < tiling.tiles, not whole):
                top = T.floordiv(number, tiling.across) * nest._filtering.m
                left = T.floormod(number, tiling.across) * nest._filtering.m
                for vector in range(tile.vectors):
                    channel = (o * tile.vectors + vector) * nest._lanes
                    self._pixels_of(p * tile.vectors + vector, channel)
                    self._flush(n, top, left, channel)

    def _pixels_of(self, number: Any, channel: Any) -> None:
        from tvm.script.ir_builder import tirx as T

        filtering, lanes = self._nest._filtering, self._nest._lanes
        index = T.ramp(0, 1, lanes)
        sums = [
            [self._sums[row * filtering.n + column, number, index] for column in range(filtering.n)]
            for row in range(filtering.n)
        ]
        found = _both_ways(filtering.outputs, sums, f"int32x{lanes}")
        for pixel in range(filtering.m**2):
            value = found[pixel // filtering.m][pixel % filtering.m]
            value = value + self._added[pixel, T.ramp(channel, 1, lanes)]
            value = _divided(value, filtering, lanes)
            T.buffer_store(self._pixels, value, [pixel, index])

    def _flush(self, n: Any, top: Any, left: Any, channel: Any) -> None:
        from tvm.script.ir_builder import tirx as T

        nest = self._nest
        geometry, m = nest._geometry, nest._filtering.m
        with T.serial(0, m) as i, T.serial(0, m) as j:
            inside = T.And(top + i < geometry.out_height, left + j < geometry.out_width)
            ragged = geometry.out_height % m or geometry.out_width % m
            with nest._when(inside, ragged):
                acc = self._pixels[i * m + j, T.ramp(0, 1, nest._lanes)]
                self._store(acc, n, top + i, left + j, channel)


def _unaliased(size: int) -> int:
    """`size`, made such that as many streams as there are components share no cache set."""
    return size + VECTOR if size % (8 * VECTOR) == 0 else size


def _both_ways(matrix: Matrix, values: Sequence[Sequence[Any]], dtype: str) -> list[list[Any]]:
    """matrix * values * matrix^T, elementwise over vectors of `dtype`, modulo its width."""
    rows = [_combined(matrix, list(column), dtype) for column in zip(*values, strict=True)]
    # rows[c][r]: row r of the product, column c of the values.
    return [
        _combined(matrix, [rows[c][r] for c in range(len(rows))], dtype)
        for r in range(matrix.shape[0])
    ]


def _combined(matrix: Matrix, values: Sequence[Any], dtype: str) -> list[Any]:
    """matrix * values, as bound vectors: additions alone, no byte multiplication is needed."""
    from tvm.script.ir_builder import tirx as T

    bound = [T.bind(value) for value in values]
    found = []
    for row in matrix.tolist():
        terms = [(factor, value) for factor, value in zip(row, bound, strict=True) if factor]
        terms.sort(key=lambda term: term[0] < 0)  # begin with a positive term, if there is one
        total: Any = None
        for factor, value in terms:
            part = _times(value, abs(factor))
            if total is None:
                total = part if factor > 0 else _zero(dtype) - part
            else:
                total = total + part if factor > 0 else total - part
        found.append(T.bind(total))
    return found


def _times(value: Any, factor: int) -> Any:
    """`factor` * value by doubling."""
    if factor == 1:
        return value
    half = _times(value, factor // 2)
    return half + half + value if factor % 2 else half + half


def _zero(dtype: str) -> Any:
    from tvm.script.ir_builder import tirx as T

    base, lanes = dtype.split("x")
    return T.broadcast(getattr(T, base)(0), int(lanes))


def _divided(value: Any, filtering: Filtering, lanes: int) -> Any:
    """`value`, a multiple of q^2, divided by that."""
    from tvm.script.ir_builder import tirx as T

    if filtering.shift is not None:
        return T.shift_right(value, T.broadcast(T.int32(filtering.shift), lanes))
    # Off by less than half before rounding, as `fits` has made sure: four instructions, where an
    # integer division by a constant takes twice as many.
    inverse = T.broadcast(T.float32(1 / filtering.divisor**2), lanes)
    quotient = T.nearbyint(T.cast(value, f"float32x{lanes}") * inverse)
    return T.cast(quotient, f"int32x{lanes}")
