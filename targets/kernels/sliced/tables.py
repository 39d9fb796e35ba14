"""Tables of the activations: what three inputs add to a count, for every choice of their weights.

Three products a_i ^ w_i are a full adder's work: their sum's digit is their exclusive or, the carry
their majority. With the pixels in the lanes a weight is the same for all of them, so both are one
of eight vectors, which are formed once per band of rows and serve all output channels and all
kernel rows [o]. An output channel looks up, by its weights, what it would have to add.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mpqdeploy.targets.kernels.popcount.adders import PlainAdder
from mpqdeploy.targets.kernels.sliced.plan import TOGETHER, VARIANTS, Plan
from mpqdeploy.targets.kernels.sliced.transpose import transpose
from mpqdeploy.targets.layout import WORD


@dataclass(frozen=True, eq=False)
class Masks:
    """`Plan.inside` and `Plan.outside`, as buffers."""

    rows: Any
    columns: Any
    start: Any


class Tables:
    """Emits what fills the tables; `lookup` reads them. Create it before the loops."""

    def __init__(self, plan: Plan, adder: PlainAdder, masks: Masks | None) -> None:
        from tvm.script.ir_builder import tirx as T

        self._plan, self._adder, self._masks = plan, adder, masks
        step = plan.geometry.stride[1]
        shape = (plan.planes * plan.words, step, plan.lines, plan.columns)
        self._words = T.alloc_buffer(shape, "uint32", scope="global")
        shape = (plan.planes, plan.geometry.kernel[1], plan.channels, plan.lanes)
        self._slices = T.alloc_buffer(shape, "uint32", scope="global")
        self._table = T.alloc_buffer((plan.table,), "uint32", scope="global")

    def clear(self) -> None:
        """Channels that only the last groups' empty inputs read. Once per function."""
        from tvm.script.ir_builder import tirx as T

        plan, zero = self._plan, T.broadcast(T.uint32(0), self._plan.lanes)
        empty = plan.channels - plan.words * WORD
        if not empty:
            return
        across = plan.geometry.kernel[1]
        with T.serial(0, plan.planes * across) as place, T.serial(0, empty) as channel:
            at = (place // across, place % across, plan.words * WORD + channel)
            T.buffer_store(self._slices, zero, [*at, T.ramp(0, 1, plan.lanes)])

    def take(self, source: Any, origin: tuple[int, int], n: Any) -> None:
        """Image `n` of the bits buffer: a row's words one after the other, by column mod stride."""
        from tvm.script.ir_builder import tirx as T

        plan, step = self._plan, self._plan.geometry.stride[1]
        last = int(source.shape[2]) - 1
        with (
            T.serial(0, plan.lines) as row,
            T.serial(0, plan.columns) as column,
            T.serial(0, step) as rest,
            T.serial(0, plan.planes * plan.words) as number,
        ):
            at = (number // plan.words, number % plan.words)
            read = T.min(origin[1] + column * step + rest, last)
            word = source[(n, origin[0] + row, read, *at)]
            T.buffer_store(self._words, word, [number, rest, row, column])

    def fill(self, band: Any) -> None:
        """The tables of a band."""
        from tvm.script.ir_builder import tirx as T

        plan = self._plan
        across = plan.geometry.kernel[1]
        with T.serial(0, plan.planes) as plane, T.serial(0, plan.words) as word:
            for tap in range(across):
                self._slice(band, plane, word, tap)
        with T.serial(0, plan.planes) as plane:
            if across == TOGETHER:  # a group is a channel
                with T.serial(0, plan.groups) as group:
                    self._group(band, plane, group, [(tap, group) for tap in range(TOGETHER)])
            else:
                with T.serial(0, plan.groups) as group:
                    numbers = [group * TOGETHER + i for i in range(TOGETHER)]
                    places = [(number % across, number // across) for number in numbers]
                    self._group(band, plane, group, places)

    def _slice(self, band: Any, plane: Any, word: Any, tap: int) -> None:
        """32 channels of a band as the pixels' bits, shifted to one tap."""
        from tvm.script.ir_builder import tirx as T

        plan, geometry = self._plan, self._plan.geometry
        shifted, rest = divmod(tap * geometry.dilation[1], geometry.stride[1])
        index = T.ramp(0, 1, plan.lanes)
        with T.serial(0, WORD) as vector:
            slot = vector * plan.lanes
            group = T.min(slot // plan.pitch, plan.rows - 1)
            row = T.min(band + group * (geometry.stride[0] * plan.vectors), plan.lines - 1)
            column = slot % plan.pitch + shifted
            place = (plane * plan.words + word, rest, row, T.ramp(column, 1, plan.lanes))
            T.buffer_store(
                self._slices, self._words[place], [plane, tap, word * WORD + vector, index]
            )
        transpose(self._slices, (plane, tap), word * WORD, plan.lanes)

    def _group(self, band: Any, plane: Any, group: Any, places: list[tuple[Any, Any]]) -> None:
        """Sum and carry of three inputs (kernel column, channel), for all signs of weights."""
        from tvm.script.ir_builder import tirx as T

        plan = self._plan
        choices = [self._signs(band, plane, tap, channel) for tap, channel in places]
        first = self._entry(band, plane, group)
        for variant in range(VARIANTS):
            a, b, c = (choice[variant >> i & 1] for i, choice in enumerate(choices))
            total = T.bitwise_xor(a, T.bitwise_xor(b, c))
            for number, value in enumerate((total, self._adder.majority(a, b, c))):
                at = first + (2 * variant + number) * plan.lanes
                T.buffer_store(self._table, value, [T.ramp(at, 1, plan.lanes)])

    def _signs(self, band: Any, plane: Any, tap: Any, channel: Any) -> tuple[Any, Any]:
        """An input's difference from a weight of -1 and from one of +1; 0 outside the image."""
        from tvm.script.ir_builder import tirx as T

        lanes = self._plan.lanes
        index = T.ramp(0, 1, lanes)
        bits = T.bind(self._slices[plane, tap, channel, index])
        if self._masks is None:
            return bits, T.bind(T.bitwise_not(bits))
        row, column = self._masks.rows[band, index], self._masks.columns[tap, index]
        inside = T.bind(T.bitwise_and(row, column))
        kept = T.bind(T.bitwise_and(bits, inside))
        return kept, T.bind(T.bitwise_xor(kept, inside))

    def _entry(self, band: Any, plane: Any, group: Any) -> Any:
        """First element of a group's table; bands take turns in as many places as are read."""
        plan = self._plan
        return ((band % plan.span * plan.planes + plane) * plan.groups + group) * plan.entry

    def lookup(self, band: Any, plane: int, group: Any, variant: Any) -> tuple[Any, Any]:
        """Digit and carry of a group; `variant`: its signs times two vectors' elements."""
        from tvm.script.ir_builder import tirx as T

        lanes = self._plan.lanes
        first = self._entry(band, plane, group) + variant
        return self._table[T.ramp(first, 1, lanes)], self._table[T.ramp(first + lanes, 1, lanes)]
