"""`WinogradKernel`: 3 x 3 convolutions of narrow codes by minimal filtering, exact in integers.

Up to 6-bit activations and 4-bit weights take 2.25 times fewer 8-bit dot products than the direct
convolution, up to 3-bit activations and 2-bit weights 3.24 times fewer (`filtering`). Weights
are stored at their own width and transformed where they are restored.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Emitted, Schedule, Tensors
from mpqdeploy.targets.kernels.dot import MICROS
from mpqdeploy.targets.kernels.dot_inner import GROUP, Micro, order_weights
from mpqdeploy.targets.kernels.geometry import (
    Dense,
    bytes_buffer,
    dense,
    dense_operand,
    largest_stored,
    operand_of_dense,
    stored_zero,
)
from mpqdeploy.targets.kernels.larger_sums import with_larger_sums
from mpqdeploy.targets.kernels.packing import Weights, unpacked_at_once
from mpqdeploy.targets.kernels.register_tiles import channel_vectors, pixels_at_once
from mpqdeploy.targets.kernels.shares import SHARES, sharing
from mpqdeploy.targets.kernels.winograd.filtering import (
    FILTERINGS,
    TAPS,
    Filtering,
    corrections,
    fits,
)
from mpqdeploy.targets.kernels.winograd.nest import Arguments, emit_nest
from mpqdeploy.targets.kernels.winograd.plan import Plan, WinogradTile, tiles_of
from mpqdeploy.targets.layout import Layout, Layouts
from mpqdeploy.targets.program import Grid, Step

# With fewer the transforms outweigh the products: 16 channels, and images of 5 x 5, were never
# faster than by direct dot products.
LEAST_CHANNELS = 32
LEAST_PIXELS = 36


class WinogradKernel:
    """One 3 x 3 convolution step on the instruction-set level of its `Micro`.

    `least_channels` (of the input) and `least_pixels` (of the output): it declines smaller ones.
    `tables`: whether the CPU looks bytes up, too (see `Epilogue`).
    """

    version = 8

    def __init__(
        self,
        micro: Micro,
        *,
        least_channels: int = LEAST_CHANNELS,
        least_pixels: int = LEAST_PIXELS,
        tables: bool = False,
    ) -> None:
        self._tables = tables
        self._least_channels = least_channels
        self._least_pixels = least_pixels
        self.micro = micro
        self.name = micro.name.replace("dot", "winograd")

    def matches(self, step: Step, tensors: Tensors, isa: Isa) -> bool:
        found = dense_operand(step, tensors)
        if isa != self.micro.isa or found is None:
            return False
        geometry = dense(step, tensors)
        enough = (
            geometry.in_channels >= self._least_channels
            and geometry.out_height * geometry.out_width >= self._least_pixels
        )
        return enough and _three_by_three(geometry) and bool(self._filterings(step, tensors))

    def schedules(self, step: Step, tensors: Tensors, isa: Isa) -> Sequence[Schedule]:
        geometry = dense(step, tensors)
        found: list[Schedule] = []
        for filtering in self._filterings(step, tensors):
            for tile in self._tiles(geometry, filtering):
                found.append({"m": filtering.m, "tiles": tile.tiles, "vectors": tile.vectors})
        return found

    def operand(self, step: Step, tensors: Tensors) -> Layout | None:
        """Padding for whole tiles of every filtering that may be chosen."""
        geometry = dense(step, tensors)
        paddings = [_padding(geometry, f) for f in self._filterings(step, tensors)]
        top, left, bottom, right = map(max, zip(*paddings, strict=True))
        return Layout(kind="bytes", padding=(top, left, bottom, right))

    def emit(
        self, step: Step, tensors: Tensors, layouts: Layouts, isa: Isa, schedule: Schedule
    ) -> Emitted:
        from tvm.script.ir_builder import IRBuilder
        from tvm.script.ir_builder import tirx as T

        from mpqdeploy.targets.kernels.epilogue import Epilogue, declare

        conv, tensor, grid = operand_of_dense(step, tensors)
        geometry, filtering = dense(step, tensors), FILTERINGS[schedule["m"]]
        tile = WinogradTile(tiles=schedule["tiles"], vectors=schedule["vectors"])
        source = bytes_buffer(conv.input, layouts, _padding(geometry, filtering))
        largest = largest_stored(grid)
        added = corrections(filtering, conv.weights, largest, stored_zero(tensor, grid))
        channels = channel_vectors(geometry.out_channels, isa.lanes) * isa.lanes
        added = np.pad(added, ((0, 0), (0, channels - added.shape[1])))
        ordered = order_weights(conv.weights, tile.vectors, self.micro)
        plan = Plan(
            geometry=geometry,
            filtering=filtering,
            tile=tile,
            lanes=isa.lanes,
            shares=schedule.get(SHARES, 1),
        )
        together = _together(plan, conv.weight_grid)
        in_registers = together is not None
        weights = Weights(ordered, conv.weight_grid, in_registers=in_registers, lift=False)
        scaled, _ = with_larger_sums(step, filtering.shift or 0)
        epilogue = Epilogue(scaled, tensors, layouts, lanes=isa.lanes, isa=isa, tables=self._tables)
        with IRBuilder() as builder, T.prim_func():
            T.func_name(self.name)
            buffer = declare("source", source, tensors)
            epilogue.declare_reads()
            weights.declare()
            corrected = T.arg("corrections", T.buffer(added.shape, "int32"))
            epilogue.declare_constants()
            epilogue.declare_writes()
            arguments = Arguments(
                source=buffer,
                origin=geometry.origin(source.layout),
                added=corrected,
                offsets=filtering.offsets(largest),
                weights=weights,
                divided=scaled is not step,
            )
            with sharing(schedule) as share:
                epilogue.fill_borders(share)
                emit_nest(plan, self.micro, arguments, together, epilogue.store, epilogue, share)
        return Emitted(
            func=builder.get(),
            reads=(source, *epilogue.reads),
            constants=(*weights.constants, added, *epilogue.constants),
            writes=epilogue.writes,
        )

    def _filterings(self, step: Step, tensors: Tensors) -> tuple[Filtering, ...]:
        """Those that are exact for this step, the one with the fewest products first."""
        found = dense_operand(step, tensors)
        if found is None:
            return ()
        conv, tensor, grid = found
        largest = largest_stored(grid)
        if stored_zero(tensor, grid) > largest:  # a border that no offset was made for
            return ()
        return tuple(f for _, f in sorted(FILTERINGS.items()) if fits(f, largest, conv.weights))

    def _tiles(self, geometry: Dense, filtering: Filtering) -> Sequence[WinogradTile]:
        vectors = channel_vectors(geometry.out_channels, self.micro.isa.lanes)
        across, down = tiles_of(geometry, filtering)
        found = []
        for wide in (2, 4, 1):
            most = pixels_at_once(wide, self.micro.accumulators, self.micro.registers)
            if vectors % wide or not most:
                continue
            blocks = -(-across * down // most)
            found.append(WinogradTile(tiles=-(-across * down // blocks), vectors=wide))
        return found


def _three_by_three(geometry: Dense) -> bool:
    plain = geometry.stride == geometry.dilation == (1, 1)
    return plain and geometry.in_channels % GROUP == 0 and geometry.kernel == (TAPS, TAPS)


def _together(plan: Plan, grid: Grid) -> int | None:
    """Vectors of weights in one packed unit; None where a tap's vectors fill no whole units."""
    unit = unpacked_at_once(grid) // plan.codes
    return None if plan.weight_vectors % unit else unit


def _padding(geometry: Dense, filtering: Filtering) -> tuple[int, int, int, int]:
    """The convolution's own padding, and below and beside as much more as whole tiles read."""
    top, left, bottom, right = geometry.padding
    below, beside = -geometry.out_height % filtering.m, -geometry.out_width % filtering.m
    return top, left, bottom + below, right + beside


WINOGRAD_KERNELS = tuple(WinogradKernel(micro) for micro in MICROS)
WINOGRAD_VBMI = WinogradKernel(MICROS[0], tables=True)
