"""The loops of a convolution by tiles.

turns: tiles of output channels (weights made ready once) > images > blocks of pixel tiles
    > sums in tiles: kernel rows > runs > steps, and the epilogue of the turn before

Tiles and vectors are different parts of a processor: while the ones multiply, the others make codes
of the sums of the turn before, which rest in scratch. So products are followed by parts of that
epilogue [o]. Products are few and short (16 cycles), so they are written out as far as `WRITTEN`
allows: addresses are constants then, and which part of the epilogue follows is no question [o].

Where blocks do not divide an image, the last one begins inside the one before it, as do the last
tile of a row and the last pixels that are stored together: some are computed twice, none is
missing, and there is one piece of code for all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, fields
from itertools import product
from math import lcm, prod
from typing import Any

from mpqdeploy.targets.kernels.flush import Outlet, Store
from mpqdeploy.targets.kernels.nest import channel_vectors
from mpqdeploy.targets.kernels.shares import WHOLE, Share
from mpqdeploy.targets.kernels.tiles.micro import BYTES, OUT, ROWS, Memory, Micro
from mpqdeploy.targets.kernels.tiles.parts import Part
from mpqdeploy.targets.kernels.tiles.plan import Blocking, Plan
from mpqdeploy.targets.kernels.tiles.weights import TileWeights

# Products of a turn, beside which its epilogue waits for memory. With more of them it does not, and
# the prefetches are what takes time (2 % of ResNet-18).
FEW = 8
WRITTEN = 12  # products that are written out at most; loops go round them


@dataclass(frozen=True)
class _Turn:
    """A tile of output channels for a block of pixels: TIR expressions."""

    channels: Any  # which tile of output channels
    block: Any  # which block of pixels
    image: Any
    first: Any  # its first pixel tile in the image
    half: Any  # of the scratch


class TileNest:
    """Emits the loops; its owner declares the buffers."""

    def __init__(self, plan: Plan, micro: Micro, blocking: Blocking, weights: TileWeights) -> None:
        """`blocking` has no more pixel tiles than `plan`."""
        self._plan = plan
        self._micro = micro
        self._blocking = blocking
        self._weights = weights
        self._source: Any = None
        self._start: Any = None
        self._sums: Any = None
        self._before: Any = None

    def bind(self, source: Any, start: Any) -> None:
        """`source`: the input; `start`: what accumulators start at, per output channel."""
        self._source, self._start = source, start

    def emit(
        self, origin: tuple[int, int], store: Store, outlet: Outlet, share: Share = WHOLE
    ) -> None:
        """`origin`: see `Dense.origin`. `store` takes the sums to `outlet`."""
        from tvm.script.ir_builder import tirx as T

        vectors = self._blocking.vectors
        self._weights.allocate()
        # In memory, not as expressions of the loop's variable: TVM would take minutes to simplify
        # what follows from these.
        self._before = T.alloc_buffer((len(fields(_Turn)),), "int32", scope="global")
        slots, length = self._slots
        shape = (2, slots, length * vectors, OUT)
        self._sums = T.alloc_buffer(shape, "int32", scope="global")
        tiles = channel_vectors(self._plan.geometry.out_channels, OUT) // vectors
        turns = tiles * self._blocking.blocks(self._plan)
        if vectors * OUT % outlet.unit:  # two shares must not write parts of one word
            with share.once():
                self._turns(origin, store, outlet, turns, WHOLE)
        else:
            self._turns(origin, store, outlet, turns, share)

    @property
    def _slots(self) -> tuple[int, int]:
        """Runs of output pixels whose sums rest, and their length: pixel tiles, or image rows."""
        if self._plan.pitch is None:
            return self._blocking.pixels, ROWS
        return self._plan.geometry.out_height, self._plan.pitch

    def _turns(
        self, origin: tuple[int, int], store: Store, outlet: Outlet, turns: int, share: Share
    ) -> None:
        from tvm.script.ir_builder import tirx as T

        first, end = share.first(turns), share.end(turns)
        epilogue = _Epilogue(self, store, outlet)
        # The first turn has none before it, and makes codes of nothing in its own place: they are
        # written again.
        self._remember(self._turn(first))
        with share.loop(turns) as number:
            turn = self._turn(number)
            before = self._remembered()
            self._weights.begin(turn.channels, turn.block, number == first)
            self._accumulate(origin, turn, before, epilogue)
            self._remember(turn)
        with T.If(end > first), T.Then(), T.serial(0, epilogue.groups) as group:
            epilogue.group(self._remembered(), group)

    def _remember(self, turn: _Turn) -> None:
        from tvm.script.ir_builder import tirx as T

        for i, field in enumerate(fields(turn)):
            T.buffer_store(self._before, getattr(turn, field.name), [i])

    def _remembered(self) -> _Turn:
        from tvm.script.ir_builder import tirx as T

        return _Turn(*(T.bind(self._before[i]) for i in range(len(fields(_Turn)))))

    def _turn(self, number: Any) -> _Turn:
        from tvm.script.ir_builder import tirx as T

        plan, pixels = self._plan, self._blocking.pixels
        block = T.bind(T.floormod(number, self._blocking.blocks(plan)))
        in_image = -(-plan.tiles // pixels)
        first = T.floormod(block, in_image) * pixels
        if plan.tiles % pixels:
            first = T.min(first, plan.tiles - pixels)
        return _Turn(
            channels=T.bind(T.floordiv(number, self._blocking.blocks(plan))),
            block=block,
            image=T.bind(T.floordiv(block, in_image)),
            first=T.bind(first),
            half=T.bind(T.floormod(number, 2)),
        )

    def place(self, tile: Any) -> tuple[Any, Any]:
        """Row and column of a tile's first pixel."""
        from tvm.script.ir_builder import tirx as T

        plan = self._plan
        if plan.across == 1:
            return tile, 0
        row, column = T.floordiv(tile, plan.across), T.floormod(tile, plan.across) * plan.columns
        last = plan.length - plan.columns
        return row, column if plan.length % plan.columns == 0 else T.min(column, last)

    def _accumulate(
        self, origin: tuple[int, int], turn: _Turn, before: _Turn, epilogue: _Epilogue
    ) -> None:
        """The sums of a turn, to scratch, and the epilogue of the turn before."""
        plan, micro = self._plan, self._micro
        pixels, vectors = self._blocking.pixels, self._blocking.vectors
        for vector in range(vectors):
            at = Memory(self._start, (turn.channels * vectors + vector) * OUT * 4)
            for k in range(pixels):
                micro.load(k * vectors + vector, at, 0)
        inputs = [self._input(origin, turn, k) for k in range(pixels)]
        for row, tap, step, part in self._products():
            number = (row * plan.taps + tap) * plan.steps + step
            self._weights.before(number, part)
            self._step(inputs, self._within(row, tap, step), number)
            self._weights.after(number)
            epilogue.part(before, turn, part)
        for k in range(pixels):
            place = self._resting(turn, k)
            for vector in range(vectors):
                at = Memory(self._sums, (place * vectors + vector) * BYTES)
                micro.store(k * vectors + vector, at, vectors * BYTES)

    def _products(self) -> Iterator[tuple[Any, Any, Any, Part]]:
        """Kernel row, run and step of every product, within loops over the outer ones."""
        from tvm.script.ir_builder import tirx as T

        extents = (self._plan.geometry.kernel[0], self._plan.taps, self._plan.steps)
        rolled = next(i for i in range(4) if prod(extents[i:]) <= WRITTEN)
        inner = prod(extents[rolled:])
        with ExitStack() as loops:
            outer = [loops.enter_context(T.serial(0, extent)) for extent in extents[:rolled]]
            number: Any = 0
            for index, extent in zip(outer, extents, strict=False):
                number = number * extent + index
            written = product(*(range(extent) for extent in extents[rolled:]))
            for q, indices in enumerate(written):
                row, tap, step = (*outer, *indices)
                yield row, tap, step, Part(number, prod(extents[:rolled]), q, inner)

    def _resting(self, turn: _Turn, k: int) -> Any:
        """Where in scratch, in pixels, the sums of a block's k-th tile are put."""
        slots, length = self._slots
        start = turn.half * (slots * length)
        if self._plan.pitch is None:
            return start + k * length
        return start + self.place(turn.first + k)[1]

    def _step(self, inputs: list[Memory], within: Any, number: Any) -> None:
        blocking, micro = self._blocking, self._micro
        across = self._plan.geometry.stride[1] * self._plan.pixel
        activations = blocking.sums
        for k, memory in enumerate(inputs):
            micro.load(activations, memory.at(within), across)
            for vector in range(blocking.vectors):
                weights = activations + 1 + vector % blocking.weights
                if k == 0:
                    micro.load(weights, self._weight(number, vector), BYTES)
                micro.multiply(k * blocking.vectors + vector, activations, weights)

    def _weight(self, number: Any, vector: int) -> Memory:
        return self._weights.at(number, vector * self._plan.depth * OUT)

    def _input(self, origin: tuple[int, int], turn: _Turn, k: int) -> Memory:
        """Where the k-th tile's first pixel has its first tap."""
        geometry, pixel = self._plan.geometry, self._plan.pixel
        _, height, width, *_ = (int(extent) for extent in self._source.shape)
        y, x = self.place(turn.first + k)
        row, column = y * geometry.stride[0] + origin[0], x * geometry.stride[1] + origin[1]
        return Memory(self._source, ((turn.image * height + row) * width + column) * pixel)

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

    # -- epilogue ----------------------------------------------------------------------------------

    @property
    def flushed(self) -> tuple[int, int]:
        """Runs of pixels of a block, and the pixels of each that are stored."""
        slots, _ = self._slots
        plan = self._plan
        return slots, plan.columns if plan.pitch is None else plan.geometry.out_width

    def sums(self, turn: _Turn, slot: Any, pixel: Any, vector: int) -> Any:
        """A pixel's sums of a vector of output channels, as they rest."""
        from tvm.script.ir_builder import tirx as T

        number = pixel * self._blocking.vectors + vector
        return self._sums[turn.half, slot, number, T.ramp(0, 1, OUT)]

    def output(self, turn: _Turn, slot: Any) -> tuple[Any, Any]:
        """Row and column of a run's first pixel."""
        return self.place(turn.first + slot) if self._plan.pitch is None else (slot, 0)

    @property
    def vectors(self) -> int:
        return self._blocking.vectors

    @property
    def products(self) -> int:
        return self._plan.products


class _Epilogue:
    """Stores a turn's sums, a group of neighbouring pixels after the other."""

    def __init__(self, nest: TileNest, store: Store, outlet: Outlet) -> None:
        self._nest, self._store, self._outlet = nest, store, outlet
        self._slots, self._length = nest.flushed
        together = lcm(nest.vectors, outlet.at_once) // nest.vectors
        self._pixels = min(together, self._length)

    @property
    def _per_slot(self) -> int:
        return -(-self._length // self._pixels)

    @property
    def groups(self) -> int:
        return self._slots * self._per_slot

    def part(self, turn: _Turn, following: _Turn, part: Part) -> None:
        """The groups that follow a product. What the following turn will store is asked for."""
        from tvm.script.ir_builder import tirx as T

        for number, certain in part.of(self.groups):
            if certain:
                self.group(turn, number)
                self._prefetch(following, number)
            else:
                with T.If(number < self.groups), T.Then():
                    self.group(turn, number)
                    self._prefetch(following, number)

    def _prefetch(self, turn: _Turn, number: Any) -> None:
        if self._nest.products > FEW:
            return
        _, start, (y, x) = self._place(turn, number)
        channels = self._nest.vectors * OUT
        for pixel in range(self._pixels):
            column = x + start + pixel
            self._outlet.prefetch(turn.image, y, column, turn.channels * channels, channels)

    def group(self, turn: _Turn, number: Any) -> None:
        slot, start, (y, x) = self._place(turn, number)
        with self._outlet.together():
            for pixel in range(self._pixels):
                for vector in range(self._nest.vectors):
                    channel = (turn.channels * self._nest.vectors + vector) * OUT
                    sums = self._nest.sums(turn, slot, start + pixel, vector)
                    self._store(sums, turn.image, y, x + start + pixel, channel)

    def _place(self, turn: _Turn, number: Any) -> tuple[Any, Any, tuple[Any, Any]]:
        """Of a group: its run of pixels, the first pixel of it in that, and where the run is."""
        from tvm.script.ir_builder import tirx as T

        slot, start = number // self._per_slot, number % self._per_slot * self._pixels
        if self._length % self._pixels:
            start = T.min(start, self._length - self._pixels)
        return slot, start, self._nest.output(turn, slot)
