"""`SlicedKernel`: +-1 weights and 1- or 2-bit activations to 1-bit outputs, with a bit of every
output pixel in a vector.

The other kernels that count bits have channels in their vectors' words, and pay for a final count
of every accumulator. With pixels there instead, every bit has a count of its own, the products of
three inputs are looked up, and a count becomes a bit where it is. Where whole counts must leave the
slices, that costs as much as was saved [o]: such steps are left to the others.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Emitted, Schedule, Tensors
from mpqdeploy.targets.kernels.geometry import dense, operand_of_dense, padded_buffer
from mpqdeploy.targets.kernels.popcount.counted import Counted, countable
from mpqdeploy.targets.kernels.shares import sharing
from mpqdeploy.targets.kernels.sliced.nest import SlicedNest
from mpqdeploy.targets.kernels.sliced.plan import Plan
from mpqdeploy.targets.kernels.sliced.tables import Masks
from mpqdeploy.targets.kernels.sliced.thresholds import comparable, thresholds
from mpqdeploy.targets.kernels.sliced.words import LAYOUTS, WordWriter
from mpqdeploy.targets.layout import WORD, Layout, Layouts, planes
from mpqdeploy.targets.program import Step

LEAST_FILLED = 0.6  # of all slots; the others' work is for nothing
MOST_BYTES = 1 << 20  # of tables: a second-level cache


class SlicedKernel:
    """Convolutions of bits with pixels in the lanes, on every instruction-set level.

    It declines images that leave more slots empty than `least_filled`, and fewer input or output
    channels than `least_channels`: words of these are transposed whole.
    """

    name = "bit_sliced"
    version = 1

    def __init__(self, *, least_filled: float = LEAST_FILLED, least_channels: int = WORD) -> None:
        self._least_filled = least_filled
        self._least_channels = least_channels

    def matches(self, step: Step, tensors: Tensors, isa: Isa) -> bool:
        found = countable(step, tensors)
        if found is None or not found[0].weight_grid.bipolar or not comparable(step, tensors):
            return False
        plan = plan_of(step, tensors, isa)
        geometry = plan.geometry
        return (
            plan.filled > 0
            and plan.filled >= self._least_filled
            and min(geometry.in_channels, geometry.out_channels) >= self._least_channels
            and 4 * plan.table <= MOST_BYTES
            # Half the inputs outside the image must be whole.
            and not (plan.masked and geometry.in_channels % 2)
            and thresholds(step, tensors, Counted.of(step, tensors, isa.lanes), plan) is not None
        )

    def schedules(self, step: Step, tensors: Tensors, isa: Isa) -> Sequence[Schedule]:
        return [{}]

    def operand(self, step: Step, tensors: Tensors) -> Layout | None:
        return Layout(kind="bits", padding=operand_of_dense(step, tensors)[0].padding)

    def emit(
        self, step: Step, tensors: Tensors, layouts: Layouts, isa: Isa, schedule: Schedule
    ) -> Emitted:
        from tvm.script.ir_builder import IRBuilder
        from tvm.script.ir_builder import tirx as T

        from mpqdeploy.targets.kernels.epilogue import Epilogue, declare

        plan, counted = plan_of(step, tensors, isa), Counted.of(step, tensors, isa.lanes)
        source = padded_buffer("bits", counted.conv.input, layouts, plan.geometry.padding)
        origin = plan.geometry.origin(source.layout)
        limits = thresholds(step, tensors, counted, plan)
        epilogue = Epilogue(step, tensors, layouts, lanes=isa.lanes, isa=isa)
        kinds = {buffer.layout.kind for buffer in epilogue.writes}
        if limits is None or not kinds <= LAYOUTS:
            raise ValueError(f"{step.name} does not write bits")
        packed = plan.variants(counted.conv.weights)
        borders = (*plan.inside(), plan.outside()) if plan.masked else ()
        with IRBuilder() as builder, T.prim_func():
            T.func_name(self.name)
            buffer = declare("source", source, tensors)
            weights = T.arg("weights", T.buffer(packed.shape, "uint64"))
            masks = [
                T.arg(f"border{i}", T.buffer(b.shape, "uint32")) for i, b in enumerate(borders)
            ]
            compared = T.arg("limits", T.buffer(limits.shape, "uint32"))
            epilogue.declare_writes()
            with sharing(schedule) as share:
                epilogue.fill_borders(share)
                nest = SlicedNest(plan, isa, weights, Masks(*masks) if masks else None)
                writers = tuple(WordWriter(writer) for writer in epilogue.writers)
                nest.emit(buffer, origin, compared, writers, share)
        return Emitted(
            func=builder.get(),
            reads=(source,),
            constants=(packed, *borders, limits),
            writes=epilogue.writes,
        )


def plan_of(step: Step, tensors: Tensors, isa: Isa) -> Plan:
    """The plan of a step that `countable` takes."""
    conv, tensor, grid = operand_of_dense(step, tensors)
    _, height, width, _ = tensor.shape
    return Plan(
        geometry=dense(step, tensors),
        planes=planes(grid),
        lanes=isa.lanes,
        masked=grid.bipolar and any(padding > 0 for padding in conv.padding),
        size=(height, width),
    )


BIT_SLICED = SlicedKernel()
