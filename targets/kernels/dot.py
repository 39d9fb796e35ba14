"""`DotKernel`: dense convolutions of byte activations, by 8-bit dot products.

Any weight width: narrow weights take less memory and are restored to bytes; the arithmetic is that
of 8 bits. Schedules with `unpack` 0 restore them once per tile of output channels, into scratch;
those with 1 in registers, for a single block of pixels; those with 2 in registers, too, for the
first block of pixels, which keeps them for the others (`dot_keeping.py`).

Where few pixels share many weights, as behind a network's last stride, schedules with several
`parts` go through the input channels a part at a time, whose weights the first-level cache holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Emitted, Schedule, Tensors
from mpqdeploy.targets.kernels.dot_avx2 import Avx2
from mpqdeploy.targets.kernels.dot_inner import (
    GROUP,
    DotInner,
    Micro,
    dot_operand,
    order_weights,
    start_values,
    unpack_step,
)
from mpqdeploy.targets.kernels.dot_keeping import KeepingInner, KeepingNest
from mpqdeploy.targets.kernels.dot_portable import Portable
from mpqdeploy.targets.kernels.dot_reading import Reading
from mpqdeploy.targets.kernels.dot_runs import Runs
from mpqdeploy.targets.kernels.dot_vnni import Vnni
from mpqdeploy.targets.kernels.flush import lowered
from mpqdeploy.targets.kernels.following import Following
from mpqdeploy.targets.kernels.geometry import (
    Dense,
    cannot_overflow,
    largest_stored,
    operand_of_dense,
    padded_buffer,
    stored_zero,
)
from mpqdeploy.targets.kernels.larger_sums import with_larger_sums
from mpqdeploy.targets.kernels.nest import RegisterNest
from mpqdeploy.targets.kernels.packing import Weights, is_narrow, lifted
from mpqdeploy.targets.kernels.pooled_sums import pools_sums
from mpqdeploy.targets.kernels.register_tiles import AT_HAND, Tile, blocks, divisors, tiles_for
from mpqdeploy.targets.kernels.row_nest import RowNest
from mpqdeploy.targets.kernels.run_nest import RunNest
from mpqdeploy.targets.kernels.shares import SHARES, sharing
from mpqdeploy.targets.layout import Layout, Layouts, stored_channels
from mpqdeploy.targets.program import Conv, Pool, Step

MICROS: tuple[Micro, ...] = (Vnni(), Avx2(), Portable())
SCRATCH, REGISTERS, KEEP = range(3)  # where narrow weights are restored: see above
FEW_BLOCKS = 2  # of pixels: going through the input channels in parts gains nothing there
PART = 20 << 10  # bytes of a part's weights: these, its inputs and the sums share 32 KiB
SUMS = 8 << 10  # most bytes of sums that rest between two parts


class DotKernel:
    """One dense convolution step on the instruction-set level of its `Micro`.

    `tables`: whether the CPU looks bytes up, too (see `Epilogue`).
    """

    version = 15

    def __init__(self, micro: Micro, *, tables: bool = False) -> None:
        self.micro = micro
        self.name = micro.name
        self._tables = tables

    def matches(self, step: Step, tensors: Tensors, isa: Isa) -> bool:
        return isa == self.micro.isa and dot_operand(step, tensors) is not None

    def schedules(self, step: Step, tensors: Tensors, isa: Isa) -> Sequence[Schedule]:
        conv, _, _ = operand_of_dense(step, tensors)
        geometry = Reading.of(step, tensors, self.micro.isa).geometry
        found: list[Schedule] = []
        tiles = tiles_for(geometry, isa.lanes, self.micro.accumulators, self.micro.registers)
        if _at_hand(geometry, conv):
            # Those from further away are better read for many pixels at once.
            tiles = sorted(tiles, key=lambda tile: tile.loads)
        for tile in tiles:
            sizes = {"rows": tile.rows, "columns": tile.columns, "vectors": tile.vectors}
            parts = parts_for(geometry, tile, isa.lanes)
            ways = self._ways(step, tensors, tile, 1)
            whole: list[Schedule] = [{**sizes, "unpack": way, "parts": 1} for way in ways]
            split: list[Schedule] = []
            if parts > 1:
                way = self._ways(step, tensors, tile, parts)[0]
                split = [{**sizes, "unpack": way, "parts": parts}]
            # Weights that are restored beforehand are written and read again: that pays where a
            # cache is near. Those that are read between products arrive in time [o].
            beforehand = is_narrow(conv.weight_grid) and ways[0] == SCRATCH
            found += split + whole if beforehand else whole + split
        return found

    def _ways(self, step: Step, tensors: Tensors, tile: Tile, parts: int) -> list[int]:
        """Where narrow weights may be restored, likely best first."""
        conv, _, grid = operand_of_dense(step, tensors)
        geometry = Reading.of(step, tensors, self.micro.isa).geometry
        served, lanes = blocks(geometry, tile), self.micro.isa.lanes
        largest = largest_stored(grid) << lifted(conv.weight_grid)
        if (
            not self.micro.unpacks
            or unpack_step(geometry, conv.weight_grid, lanes, tile.vectors, parts) is None
            or not cannot_overflow(conv.weights, largest)
        ):
            return [SCRATCH]
        if served == 1:
            return [REGISTERS, SCRATCH]
        return [SCRATCH] if _at_hand(geometry, conv) else [KEEP, SCRATCH]

    def takes_pool(self, step: Step, tensors: Tensors, isa: Isa, schedule: Schedule) -> bool:
        """Where rows are written with all of their channels."""
        conv = step.anchor
        if not isinstance(conv, Conv) or conv.pool is None or SHARES in schedule:
            return False
        reading = Reading.of(step, tensors, self.micro.isa)
        plan = _Plan.of(step, reading, conv, self.micro, schedule)
        return plan.in_rows and pools_sums(conv.pool, reading.geometry, plan.tile)

    def operand(self, step: Step, tensors: Tensors) -> Layout | None:
        return Reading.of(step, tensors, self.micro.isa).operand

    def emit(
        self, step: Step, tensors: Tensors, layouts: Layouts, isa: Isa, schedule: Schedule
    ) -> Emitted:
        from tvm.script.ir_builder import IRBuilder
        from tvm.script.ir_builder import tirx as T

        from mpqdeploy.targets.kernels.epilogue import Epilogue, declare

        conv, tensor, grid = operand_of_dense(step, tensors)
        reading = Reading.of(step, tensors, self.micro.isa)
        source = padded_buffer(reading.operand.kind, conv.input, layouts, reading.operand.padding)
        plan = _Plan.of(step, reading, conv, self.micro, schedule)
        start = start_values(conv.weights, stored_zero(tensor, grid), isa.lanes) << plan.shift
        nest = plan.nest(isa, conv.pool)
        scaled, left = with_larger_sums(step, plan.shift)
        epilogue = Epilogue(scaled, tensors, layouts, lanes=isa.lanes, isa=isa, tables=self._tables)
        with IRBuilder() as builder, T.prim_func():
            T.func_name(self.name)
            buffer = declare("source", source, tensors)
            epilogue.declare_reads()
            plan.weights.declare()
            start_buffer = T.arg("start", T.buffer(start.shape, "int32"))
            tables = nest.declare(buffer) if isinstance(nest, RunNest) else ()
            epilogue.declare_constants()
            epilogue.declare_writes()
            plan.inner.bind(reading.buffer(buffer), reading.place, start_buffer)
            store = lowered(epilogue.store, left, isa.lanes)
            with sharing(schedule) as share:
                epilogue.fill_borders(share)
                following = Following.of(schedule, start_buffer)
                nest.emit(reading.geometry.origin(source.layout), store, epilogue, share, following)
        return Emitted(
            func=builder.get(),
            reads=(source, *epilogue.reads),
            constants=(*plan.weights.constants, start, *tables, *epilogue.constants),
            writes=epilogue.writes,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Plan:
    """What a schedule makes of a convolution: its weights in order, and who adds the products.

    `shift`: log2 of the factor by which accumulators are larger than the sums.
    """

    tile: Tile
    runs: Runs | None
    weights: Weights
    inner: DotInner
    in_rows: bool
    shift: int

    @classmethod
    def of(
        cls, step: Step, reading: Reading, conv: Conv, micro: Micro, schedule: Schedule
    ) -> _Plan:
        """Of the step's convolution. Raises `ValueError` for a schedule that is not its."""
        grid = conv.weight_grid
        lanes, parts = micro.isa.lanes, schedule["parts"]
        tile = Tile(schedule["rows"], schedule["columns"], schedule["vectors"])
        groups: int | None = None
        if schedule["unpack"]:
            groups = unpack_step(reading.geometry, grid, lanes, tile.vectors, parts)
            if groups is None:
                raise ValueError(f"{step.name}: weights do not fill whole vectors")
        whole = groups is None and parts == 1
        runs = Runs.of(reading, tile) if whole else None
        steps = reading if runs is None else runs
        ordered = order_weights(steps.weights, tile.vectors, micro, parts)
        pays = len(ordered) > 1 or conv.pool is not None
        in_rows = runs is not None or (whole and pays and ordered.size <= AT_HAND)
        codes = ordered.reshape(1, -1) if in_rows else ordered
        weights = Weights(codes, grid, in_registers=groups is not None)
        inner = (KeepingInner if schedule["unpack"] == KEEP else DotInner)(
            steps.geometry,
            micro,
            weights,
            tile.vectors,
            groups,
            parts=parts,
            blocks=blocks(reading.geometry, tile),
            at_hand=ordered.shape[1] if in_rows else 0,
        )
        # Lifted weights make lifted accumulators; `schedules` knows that those do not overflow.
        shift = lifted(grid) if groups is not None else 0
        return cls(tile=tile, runs=runs, weights=weights, inner=inner, in_rows=in_rows, shift=shift)

    def nest(self, isa: Isa, pool: Pool | None) -> RegisterNest:
        geometry = self.inner.geometry
        if self.runs:
            return RunNest(isa, self.tile, self.inner, self.runs, pool)
        if self.in_rows:
            return RowNest(geometry, isa, self.tile, self.inner, pool)
        if isinstance(self.inner, KeepingInner):
            return KeepingNest(geometry, isa, self.tile, self.inner)
        return RegisterNest(geometry, isa, self.tile, self.inner)


def _at_hand(geometry: Dense, conv: Conv) -> bool:
    """Whether a first-level cache holds the weights of all output channels."""
    return stored_channels(geometry.out_channels) * int(conv.weights[0].size) <= AT_HAND


def parts_for(geometry: Dense, tile: Tile, lanes: int) -> int:
    """The fewest parts of the input channels whose weights fit the first-level cache; 1 where the
    blocks of pixels are too few to gain by it, or their sums too many to rest there too."""
    served, registers = blocks(geometry, tile), tile.vectors * lanes
    if served <= FEW_BLOCKS or served * tile.registers * lanes * 4 > SUMS:
        return 1
    groups = -(-geometry.in_channels // GROUP)
    size = geometry.taps * groups * GROUP * registers
    return next((n for n in divisors(groups, groups) if size <= n * PART), 1)


DOT_KERNELS = tuple(DotKernel(micro) for micro in MICROS)
DOT_VBMI = DotKernel(MICROS[0], tables=True)
