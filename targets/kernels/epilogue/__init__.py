"""`Epilogue`: turns accumulators into every layout of every output of a step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray
from tvm.script.ir_builder import tirx as T

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Buffer, Tensors
from mpqdeploy.targets.kernels.epilogue.borders import clear_word_ends, fill_border
from mpqdeploy.targets.kernels.epilogue.packed import (
    AT_ONCE,
    Follows,
    Packing,
    packings,
    packs,
    write,
)
from mpqdeploy.targets.kernels.epilogue.rows import store_row
from mpqdeploy.targets.kernels.epilogue.staircase import BYTES
from mpqdeploy.targets.kernels.epilogue.values import Values
from mpqdeploy.targets.kernels.epilogue.vectors import Place, declare
from mpqdeploy.targets.kernels.epilogue.writers import Views, Writer
from mpqdeploy.targets.kernels.quads import Order
from mpqdeploy.targets.kernels.shares import WHOLE, Share
from mpqdeploy.targets.layout import CHANNEL_BLOCK, WORD, Layouts, stored_channels
from mpqdeploy.targets.program import Step

__all__ = ["Epilogue", "declare", "takes_quads"]


def takes_quads(step: Step, tensors: Tensors, layouts: Layouts, isa: Isa) -> bool:
    """Whether an epilogue of the step may be given an order: it reads nothing but sums, and packs
    whatever it writes."""
    return not any(step.loads()) and all(
        packs(output.value, tensors[output.tensor], layout, isa, isa.lanes)
        for output in step.outputs
        for layout in layouts[output.tensor]
    )


class Epilogue:
    """A step's output expressions as TIR, for vectors of `lanes` (4, 8 or 16) channels.

    Made before the PrimFunc is opened, used inside it, arguments in the order of `Emitted`:

        epilogue = Epilogue(step, tensors, layouts, lanes=16, isa=isa)
        with IRBuilder() as ib, T.prim_func():
            T.func_name(step.name)
            source = declare("source", Buffer(tensor=..., layout=...), tensors)  # the anchor's
            epilogue.declare_reads()
            weights = T.arg("weights", T.buffer(...))  # the kernel's own constants
            epilogue.declare_constants()
            epilogue.declare_writes()
            epilogue.fill_borders()
            ...  # for every pixel and every c0 in range(0, C, lanes):
                epilogue.store(acc[T.ramp(0, 1, 16)], n, y, x, c0)
        Emitted(func=ib.get(), reads=(anchor, *epilogue.reads),
                constants=(weights, *epilogue.constants), writes=epilogue.writes)

    Every pixel must be stored with every multiple of `lanes` below `stored_channels(C)`, each at
    least once and in any order; a multiple of `lanes` past that is ignored where it is a Python
    int, and must not occur where it is symbolic (but for C <= 4, where it is ignored too).
    Values past channel C are not defined, but stay inside the buffers.

    Arithmetic is float32 in the order of the expressions. The compiler may contract a
    multiplication and an addition into one FMA, which rounds once instead of twice: a code may
    differ by one from another executor's, where the value before rounding is within float
    rounding of a threshold. NaN and infinities are not expected.
    """

    def __init__(
        self,
        step: Step,
        tensors: Tensors,
        layouts: Layouts,
        *,
        lanes: int,
        isa: Isa,
        order: Order | None = None,
        tables: bool = False,
    ) -> None:
        """`order`: with it there is `store_quads`; see `takes_quads`. `tables`: whether the CPU
        looks bytes up (AVX-512 VBMI)."""
        if lanes not in (4, 8, 16):
            raise ValueError(f"an epilogue has 4, 8 or 16 lanes, not {lanes}")
        shapes = {tensors[output.tensor].shape for output in step.outputs}
        if len(shapes) != 1:
            raise ValueError(f"{step.name}: outputs of one step differ in shape: {shapes}")
        self.shape = shapes.pop()
        self.lanes = lanes
        self._isa = isa
        self._tables = tables
        self._step = step
        self._tensors = tensors
        self._values = Values(step, tensors, layouts, order)
        self._targets = [
            (output, Buffer(tensor=output.tensor, layout=layout))
            for output in step.outputs
            for layout in layouts[output.tensor]
        ]
        self._writers: list[Writer] = []
        self._packings: tuple[Packing, ...] = ()
        self._alone: list[Writer] = []  # whom no packing serves
        self._together = False

    @property
    def reads(self) -> tuple[Buffer, ...]:
        """What `Load`s read: arguments after the anchor's input."""
        return self._values.reads

    @property
    def constants(self) -> tuple[NDArray[Any], ...]:
        """Float32 vectors over channels, padded with zeros to a multiple of CHANNEL_BLOCK; then all
        scalars in one array, where there are any."""
        return self._values.constants

    @property
    def writes(self) -> tuple[Buffer, ...]:
        """Every layout of every output."""
        return tuple(buffer for _, buffer in self._targets)

    def declare_reads(self) -> None:
        self._values.declare_reads()

    def declare_constants(self) -> None:
        self._values.declare_constants()

    def declare_writes(self) -> None:
        """The last arguments of a function."""
        args = [
            declare(f"out{i}", buffer, self._tensors) for i, (_, buffer) in enumerate(self._targets)
        ]
        self._writers = [
            Writer(
                tensor=self._tensors[buffer.tensor],
                buffer=buffer,
                arg=arg,
                views=Views.of(arg, buffer.layout),
                value=output.value,
                isa=self._isa,
            )
            for arg, (output, buffer) in zip(args, self._targets, strict=True)
        ]
        packed = [
            writer
            for writer in self._writers
            if packs(writer.value, writer.tensor, writer.buffer.layout, self._isa, self.lanes)
        ]
        self._packings = packings(packed, tables=self._tables)
        self._alone = [writer for writer in self._writers if writer not in packed]

    @property
    def writers(self) -> tuple[Writer, ...]:
        """In the order of `writes`, for a kernel that writes codes itself; once declared."""
        return tuple(self._writers)

    def store(self, acc: Any, n: Any, y: Any, x: Any, c0: Any) -> None:
        """Writes channels c0 .. c0+lanes-1 of output pixel (n, y, x) to every layout.

        `acc`: int32 or int64 expression of `lanes` lanes, None without an anchor. `c0`: a multiple
        of `lanes`, an int or symbolic.
        """
        stored = stored_channels(self.shape[3])
        if isinstance(c0, int):
            if c0 < stored:
                self._store(acc, n, y, x, c0)
        elif stored <= 4:
            with T.If(c0 == 0), T.Then():
                self._store(acc, n, y, x, 0)
        else:
            self._store(acc, n, y, x, c0)

    def prefetch(self, n: Any, y: Any, x: Any, c0: Any, channels: int) -> None:
        """Ask for the memory that stores of these channels of a pixel will read and write."""
        place = Place(n=n, y=y, x=x, c=c0, lanes=channels)
        self._values.prefetch(place)
        for writer in self._writers:
            writer.prefetch(place)

    def _store(self, acc: Any, n: Any, y: Any, x: Any, c0: Any) -> None:
        place = Place(n=n, y=y, x=x, c=c0, lanes=self.lanes)
        evaluation = self._values.at(place, acc if acc is None else T.bind(acc))
        for writer in self._alone if self._together else self._writers:
            writer.store(evaluation, place)
        for packing in self._packings if self._together else ():
            packing.add(evaluation, place)

    def store_quads(
        self, accs: Sequence[Any], position: Any, n: Any, y: Any, columns: Sequence[Any], c0: Any
    ) -> None:
        """Writes 64 codes, in quads (`kernels/quads.py`): the 64 channels from c0 of pixel (n, y)
        in one column, or the 32 from c0 in two. `position`: of their constants in the order."""
        each = range(0, len(accs) // len(columns) * self.lanes, self.lanes)
        places = [Place(n=n, y=y, x=x, c=c0 + c, lanes=self.lanes) for x in columns for c in each]
        evaluations = []
        for number, acc in enumerate(accs):
            at = replace(places[0], c=position + number * self.lanes)
            evaluations.append(self._values.at(at, T.bind(acc)))
        for packing in self._packings:
            packing.store_quads(evaluations, places)

    def store_codes(
        self, codes: Any, how: Sequence[Follows], n: Any, y: Any, x: Any, c0: Any
    ) -> None:
        """Writes what follows from 64 stored codes, the channels from c0 of pixel (n, y, x), as
        `following.all_follow` says."""
        each = range(0, BYTES, CHANNEL_BLOCK)
        places = [Place(n=n, y=y, x=x, c=c0 + c, lanes=CHANNEL_BLOCK) for c in each]
        for writer, follows in zip(self._writers, how, strict=True):
            write(writer, follows, codes, places)

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is stored inside may be stored up to `at_once` vectors at a time, at the latest at
        the end. All of it must be executed if any is: no branch or loop around a part of it."""
        self._together = True
        try:
            yield
            for packing in self._packings:
                packing.flush()
        finally:
            self._together = False

    @property
    def at_once(self) -> int:
        """Vectors that `together` stores faster than one by one."""
        return AT_ONCE if self._packings else 1

    def store_row(self, n: Any, y: Any, x: Any, lanes: int) -> None:
        """Writes all channels (at most 4) of `lanes` pixels from (n, y, x), without an anchor.

        For images: vectors run along the row, as NCHW floats lie. Every layout must be bytes or
        tight.
        """
        for writer in self._writers:
            codes = []
            for channel in range(self.shape[3]):
                place = Place(n=n, y=y, x=x, c=channel, lanes=lanes, axis="row")
                codes.append(self._values.at(place, None).stored(writer.value, writer.grid))
            store_row(writer, codes, Place(n=n, y=y, x=x, c=0, lanes=lanes, axis="row"))

    @property
    def unit(self) -> int:
        """Neighbouring channels that one thread must store: 4 bits are stored by changing a word
        of bits, all others as they are."""
        bits = any(buffer.layout.kind == "bits" for buffer in self.writes)
        return WORD if bits and self.lanes < 8 else 1

    def fill_borders(self, share: Share = WHOLE) -> None:
        """Emits loops that write the padding borders of every written layout, and the unused
        ends of bit words. Once per function, before or after the stores."""
        with share.once():
            for writer in self._writers:
                fill_border(writer.tensor, writer.buffer, writer.arg)
                stored = stored_channels(self.shape[3])
                odd = stored // CHANNEL_BLOCK % 2 == 1
                if writer.buffer.layout.kind == "bits" and odd and stored > self.lanes:
                    clear_word_ends(writer.tensor, writer.buffer, writer.views.parts[16])
