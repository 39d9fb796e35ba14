"""The loops of a convolution by tiles.

turns: tiles of output channels (weights made ready once) > images > blocks of pixel tiles, or the
        other way round where all weights are few (`Blocking.channels_inside`)
    > sums in tiles: kernel rows > runs > steps, and the epilogue of the turn before

Tiles and vectors are different parts of a processor: while the ones multiply, the others make codes
of the sums of the turn before, which rest in scratch. So products are followed by parts of that
epilogue [o]. Products are few and short (16 cycles), so they are written out as far as
`Micro.written` allows: addresses are constants then, and what follows each is known [o].

Where blocks do not divide an image, the last one begins inside the one before it, as do the last
tile of a row and the last pixels that are stored together: some are computed twice, none is
missing, and there is one piece of code for all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import fields
from itertools import product
from math import prod
from typing import Any

from mpqdeploy.targets.kernels.flush import Outlet, Store
from mpqdeploy.targets.kernels.shares import WHOLE, Share
from mpqdeploy.targets.kernels.tiles.groups import Groups
from mpqdeploy.targets.kernels.tiles.micro import BYTES, OUT, Memory, Micro
from mpqdeploy.targets.kernels.tiles.parts import Part
from mpqdeploy.targets.kernels.tiles.plan import Blocking, Plan
from mpqdeploy.targets.kernels.tiles.resting import Resting, Turn, place
from mpqdeploy.targets.kernels.tiles.weights import TileWeights


class TileNest:
    """Emits the loops; its owner declares the buffers."""

    def __init__(self, plan: Plan, micro: Micro, blocking: Blocking, weights: TileWeights) -> None:
        """`blocking` has no more pixel tiles than `plan`."""
        self._plan = plan
        self._micro = micro
        self._blocking = blocking
        self._weights = weights
        self._resting = Resting(plan, blocking)
        self._source: Any = None
        self._start: Any = None
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
        self._before = T.alloc_buffer((len(fields(Turn)),), "int32", scope="global")
        self._resting.allocate()
        turns = self._blocking.channel_tiles(self._plan) * self._blocking.blocks(self._plan)
        if vectors * OUT % outlet.unit:  # two shares must not write parts of one word
            with share.once():
                self._turns(origin, store, outlet, turns, WHOLE)
        else:
            self._turns(origin, store, outlet, turns, share)

    def _turns(
        self, origin: tuple[int, int], store: Store, outlet: Outlet, turns: int, share: Share
    ) -> None:
        from tvm.script.ir_builder import tirx as T

        first, end = share.first(turns), share.end(turns)
        epilogue = Groups(self._plan, self._blocking, self._resting, store, outlet)
        # The first turn has none before it, and makes codes of nothing in its own place: they are
        # written again.
        self._remember(self._turn(first))
        with share.loop(turns) as number:
            turn = self._turn(number)
            before = self._remembered()
            self._weights.begin(turn.channels, turn.block, number == first)
            self._accumulate(origin, turn, before, epilogue)
            self._remember(turn)
        with T.If(end > first), T.Then(), T.serial(0, epilogue.count) as group:
            epilogue.emit(self._remembered(), group)

    def _remember(self, turn: Turn) -> None:
        from tvm.script.ir_builder import tirx as T

        for i, field in enumerate(fields(turn)):
            T.buffer_store(self._before, getattr(turn, field.name), [i])

    def _remembered(self) -> Turn:
        from tvm.script.ir_builder import tirx as T

        return Turn(*(T.bind(self._before[i]) for i in range(len(fields(Turn)))))

    def _turn(self, number: Any) -> Turn:
        from tvm.script.ir_builder import tirx as T

        plan, pixels = self._plan, self._blocking.pixels
        inside = self._blocking.channels_inside(plan)
        inner = self._blocking.channel_tiles(plan) if inside else self._blocking.blocks(plan)
        found = T.bind(T.floordiv(number, inner)), T.bind(T.floormod(number, inner))
        block, channels = found if inside else found[::-1]
        in_image = self._blocking.blocks(plan) // plan.geometry.batch
        first = T.floormod(block, in_image) * pixels
        if plan.pitch is None and plan.tiles % pixels:
            first = T.min(first, plan.tiles - pixels)
        return Turn(
            channels=channels,
            block=block,
            image=T.bind(T.floordiv(block, in_image)),
            first=T.bind(first),
            half=T.bind(T.floormod(number, 2)),
        )

    def _accumulate(
        self, origin: tuple[int, int], turn: Turn, before: Turn, epilogue: Groups
    ) -> None:
        """The sums of a turn, to scratch, and the epilogue of the turn before."""
        plan, micro = self._plan, self._micro
        pixels, vectors = self._blocking.pixels, self._blocking.vectors
        passes, at_once = self._blocking.passes(plan), self._blocking.at_once
        rounds = list(product(range(passes), range(0, vectors, at_once)))
        for done, (turn_pass, leading) in enumerate(rounds):
            first = turn.first + min(turn_pass * pixels, plan.tiles - pixels)
            chosen = range(leading, leading + at_once)
            for index, vector in enumerate(chosen):
                at = Memory(self._start, (turn.channels * vectors + vector) * OUT * 4)
                for k in range(pixels):
                    micro.load(k * at_once + index, at, 0)
            inputs = [self._input(origin, turn, first + k) for k in range(pixels)]
            for row, tap, step, part in self._products():
                number = (row * plan.taps + tap) * plan.steps + step
                behind = part.after(done, len(rounds))
                self._weights.before(number, behind)
                self._step(inputs, self._within(row, tap, step), number, chosen)
                self._weights.after(number, behind)
                epilogue.part(before, turn, behind)
            for k in range(pixels):
                for index, vector in enumerate(chosen):
                    at, stride = self._resting.tile(turn, k, first + k, vector)
                    micro.store(k * at_once + index, at, stride)

    def _products(self) -> Iterator[tuple[Any, Any, Any, Part]]:
        """Kernel row, run and step of every product, within loops over the outer ones."""
        from tvm.script.ir_builder import tirx as T

        extents = (self._plan.geometry.kernel[0], self._plan.taps, self._plan.steps)
        rolled = next(i for i in range(4) if prod(extents[i:]) <= self._micro.written)
        inner = prod(extents[rolled:])
        with ExitStack() as loops:
            outer = [loops.enter_context(T.serial(0, extent)) for extent in extents[:rolled]]
            number: Any = 0
            for index, extent in zip(outer, extents, strict=False):
                number = number * extent + index
            written = product(*(range(extent) for extent in extents[rolled:]))
            for q, indices in enumerate(written):
                at: list[Any] = [*outer, *indices]
                yield at[0], at[1], at[2], Part(number, prod(extents[:rolled]), q, inner)

    def _step(self, inputs: list[Memory], within: Any, number: Any, vectors: Sequence[int]) -> None:
        blocking, micro = self._blocking, self._micro
        across = self._plan.geometry.stride[1] * self._plan.pixel
        activations = blocking.sums
        for k, memory in enumerate(inputs):
            micro.load(activations, memory.at(within), across)
            for index, vector in enumerate(vectors):
                weights = activations + 1 + index % blocking.weights
                if k == 0:
                    micro.load(weights, self._weight(number, vector), BYTES)
                micro.multiply(k * blocking.at_once + index, activations, weights)

    def _weight(self, number: Any, vector: int) -> Memory:
        return self._weights.at(number, vector * self._plan.depth * OUT)

    def _input(self, origin: tuple[int, int], turn: Turn, tile: Any) -> Memory:
        """Where a tile's first pixel has its first tap."""
        geometry, pixel = self._plan.geometry, self._plan.pixel
        _, height, width, *_ = (int(extent) for extent in self._source.shape)
        y, x = place(self._plan, tile)
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
        if plan.phases:
            return plan.phases.pixels(row, tap) * plan.pixel + start
        down, across = plan.geometry.dilation
        return (row * down * width + tap * across) * plan.pixel + start
