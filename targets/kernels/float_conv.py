"""`FloatConvolution`: convolutions of float32, for layers that integers cannot compute.

    image to a padded scratch, channels last > blocks of `lanes` output channels > rows
        > column tiles > accumulators: kernel rows > kernel columns > the block's input channels

A fallback: it is vectorized and reads nothing twice from far away, but is not tuned further.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Buffer, Emitted, Schedule, Tensors
from mpqdeploy.targets.kernels.convolution import column_tiles
from mpqdeploy.targets.kernels.direct import rearranged
from mpqdeploy.targets.kernels.shares import Share, sharing
from mpqdeploy.targets.kernels.spans import cut
from mpqdeploy.targets.kernels.storable import lanes_for, storable
from mpqdeploy.targets.layout import Layout, Layouts
from mpqdeploy.targets.program import FloatConv, Step


class FloatConvolution:
    """Groups, dilation, any stride and padding."""

    name = "float_conv"
    version = 1

    def matches(self, step: Step, tensors: Tensors, isa: Isa) -> bool:
        return isinstance(step.anchor, FloatConv) and storable(step, tensors)

    def schedules(self, step: Step, tensors: Tensors, isa: Isa) -> Sequence[Schedule]:
        return column_tiles(step, tensors)

    def operand(self, step: Step, tensors: Tensors) -> Layout | None:
        return Layout(kind="float")

    def emit(
        self, step: Step, tensors: Tensors, layouts: Layouts, isa: Isa, schedule: Schedule
    ) -> Emitted:
        from tvm.script.ir_builder import IRBuilder
        from tvm.script.ir_builder import tirx as T

        from mpqdeploy.targets.kernels.epilogue import Epilogue, declare

        conv = step.anchor
        if not isinstance(conv, FloatConv):
            raise ValueError(f"{step.name} is no convolution of floats")
        lanes = lanes_for(conv.weights.shape[0], isa)
        weights, first, depth = rearranged(conv.weights, conv.groups, lanes)
        source = Buffer(tensor=conv.input, layout=Layout(kind="float"))
        epilogue = Epilogue(step, tensors, layouts, lanes=lanes, isa=isa)
        top, left, bottom, right = conv.padding
        _, height, width, channels = tensors[conv.input].shape
        padded = (height + top + bottom, width + left + right, channels)
        with IRBuilder() as ib, T.prim_func():
            T.func_name(self.name)
            image = declare("source", source, tensors)
            epilogue.declare_reads()
            weights_arg = T.arg("weights", T.buffer(weights.shape, "float32"))
            first_arg = T.arg("first", T.buffer(first.shape, "int32"))
            epilogue.declare_constants()
            epilogue.declare_writes()
            with sharing(schedule) as share:
                epilogue.fill_borders(share)
                nest = _Nest(
                    conv=conv,
                    scratch=T.alloc_buffer(padded, "float32", scope="global"),
                    weights=weights_arg,
                    first=first_arg,
                    depth=depth,
                    lanes=lanes,
                    accs=[T.alloc_buffer((lanes,), "float32") for _ in range(schedule["columns"])],
                )
                with T.serial(0, epilogue.shape[0]) as n:
                    nest.fill(image, n, (height, width))
                    nest.emit(epilogue, n, share)
        return Emitted(
            func=ib.get(),
            reads=(source, *epilogue.reads),
            constants=(weights, first, *epilogue.constants),
            writes=epilogue.writes,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Nest:
    """The loops over one image, over TIR buffers."""

    conv: FloatConv
    scratch: Any
    weights: Any
    first: Any
    depth: int
    lanes: int
    accs: list[Any]

    def fill(self, image: Any, n: Any, size: tuple[int, int]) -> None:
        """The scratch: the image with its channels last, and zeros around it."""
        from tvm.script.ir_builder import tirx as T

        rows, columns, channels = (int(extent) for extent in self.scratch.shape)
        top, left = self.conv.padding[:2]
        if (rows, columns) != size:
            with T.serial(0, rows) as y, T.serial(0, columns) as x, T.serial(0, channels) as c:
                T.buffer_store(self.scratch, T.float32(0), [y, x, c])
        with T.serial(0, channels) as c, T.serial(0, size[0]) as y, T.serial(0, size[1]) as x:
            T.buffer_store(self.scratch, image[n, c, y, x], [y + top, x + left, c])

    def emit(self, epilogue: Any, n: Any, share: Share) -> None:
        from tvm.script.ir_builder import tirx as T

        _, height, width, _ = epilogue.shape
        index = T.ramp(0, 1, self.lanes)
        with T.serial(0, self.first.shape[0]) as block, share.loop(height) as y:
            for tile in cut(width, len(self.accs)):
                with T.serial(0, tile.count) as i:
                    x = tile.start + i * tile.step
                    self._accumulate(block, y, x, tile.step)
                    for column in range(tile.step):
                        value = self.accs[column][index]
                        epilogue.store(value, n, y, x + column, block * self.lanes)

    def _accumulate(self, block: Any, y: Any, x: Any, columns: int) -> None:
        """Emits the sums of `columns` pixels from (y, x)."""
        from tvm.script.ir_builder import tirx as T

        index = T.ramp(0, 1, self.lanes)
        stride, dilation = self.conv.stride, self.conv.dilation
        _, rows, width, _ = self.conv.weights.shape
        for acc in self.accs[:columns]:
            T.buffer_store(acc, T.broadcast(T.float32(0), self.lanes), [index])
        with T.serial(0, rows) as kh, T.serial(0, width) as kw, T.serial(0, self.depth) as i:
            at = ((kh * width + kw) * self.depth + i) * self.lanes
            weight = T.bind(self.weights[block, T.ramp(at, 1, self.lanes)])
            row = y * stride[0] + kh * dilation[0]
            for number, acc in enumerate(self.accs[:columns]):
                column = (x + number) * stride[1] + kw * dilation[1]
                value = self.scratch[row, column, self.first[block] + i]
                total = acc[index] + T.broadcast(value, self.lanes) * weight
                T.buffer_store(acc, total, [index])
