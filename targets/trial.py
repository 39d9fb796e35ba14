"""Compile and time the candidates of layers: what `profile` does for what is not stored yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mpqdeploy.core import LatencyRecord, Protocol
from mpqdeploy.targets.build import build_all
from mpqdeploy.targets.candidates import Candidate, Layer
from mpqdeploy.targets.devices import Device
from mpqdeploy.targets.kernels.base import Emitted
from mpqdeploy.targets.layout import buffer_dtype, buffer_shape
from mpqdeploy.targets.measure import MOST_ROUNDS, Timer, device_timer, measure_together
from mpqdeploy.targets.records import RecordStore
from mpqdeploy.targets.synthesize import random_buffer
from mpqdeploy.targets.target import Target
from mpqdeploy.targets.turns import in_quietest_turns

SKETCH = 5  # samples of the first, short look at a candidate
HOPELESS = 1.5  # a candidate this many times slower than the best of its layer is dropped
HOPELESS_KERNEL = 3.0  # and with its default schedule this many times, its other schedules too
CLOSE = 1.2  # those within this of the best are timed again, later
ROUNDS = MOST_ROUNDS // 2  # of samples, at either time


@dataclass(frozen=True, kw_only=True, eq=False)
class _Entrant:
    """A compiled candidate on the device."""

    layer: Layer
    choice: Candidate
    enter: Callable[[], Timer]  # takes it, with fresh tensors, to the device
    timer: Timer


@dataclass(frozen=True, kw_only=True, eq=False)
class Close:
    """A contender that was about as fast as the best of its layer, and what it took then."""

    choice: Candidate
    enter: Callable[[], Timer]
    record: LatencyRecord


class Trial:
    """Times the contenders of layers that are to be compared.

    First the default schedule of every kernel, then the other schedules of the kernels that are
    not hopeless. What is hopeless after a sketch is stored as pruned. The others are then measured
    in full, all in turn. Those that are close are measured again when other layers have had their
    turn: another program may have kept the machine busy for a second, and slow some kernels more
    than others [o]. `say` is told which layer is at work.
    """

    def __init__(
        self,
        target: Target,
        device: Device,
        store: RecordStore,
        protocol: Protocol,
        say: Callable[[str], None],
    ) -> None:
        self._target = target
        self._device = device
        self._store = store
        self._protocol = protocol
        self._say = say

    def run(self, layers: Sequence[Layer], folder: Path) -> Sequence[Close]:
        """Compile into `folder`, time, and store a record of every contender.

        Returns what `again` is for: the close ones of all layers, or nothing where each layer's
        best is alone.
        """
        first = [(layer, [c for c in layer.contenders if c.default]) for layer in layers]
        entrants = self._enter(first, folder / "default")
        kept = self._kept(entrants, HOPELESS_KERNEL)
        lost = {(e.layer, e.choice.kernel) for e in entrants if e not in kept}
        others = [(layer, [c for c in layer.contenders if not c.default]) for layer in layers]
        rest = [
            (layer, [choice for choice in choices if (layer, choice.kernel) not in lost])
            for layer, choices in others
        ]
        kept = self._kept([*kept, *self._enter(rest, folder / "rest")], HOPELESS)
        timers = {entrant.choice.digest: entrant.timer for entrant in kept}
        records = self._measured(timers)
        for entrant in kept:
            self._store.put(entrant.choice.key, records[entrant.choice.digest])
        close = _within(CLOSE, kept, records)
        if len(close) == len(layers):
            return ()
        return [
            Close(choice=e.choice, enter=e.enter, record=records[e.choice.digest]) for e in close
        ]

    def again(self, close: Sequence[Close]) -> None:
        """Time what `run` returned once more, and add that to the records."""
        records = self._measured({one.choice.digest: one.enter() for one in close})
        for one in close:
            self._store.put(one.choice.key, one.record.followed_by(records[one.choice.digest]))

    def _measured(self, timers: Mapping[str, Timer]) -> Mapping[str, LatencyRecord]:
        return measure_together(timers, self._protocol, self._device.fingerprint, rounds=ROUNDS)

    def _kept(self, entrants: Sequence[_Entrant], factor: float) -> Sequence[_Entrant]:
        """Those within `factor` of their layer's best; the others are stored as pruned.

        A sketch decides, of all of them in turn: an earlier one may be of another clock [o].
        """
        short = replace(self._protocol, samples=min(SKETCH, self._protocol.samples))
        timers = {entrant.choice.digest: entrant.timer for entrant in entrants}
        sketches = measure_together(timers, short, self._device.fingerprint, rounds=1)
        kept = _within(factor, entrants, sketches)
        for entrant in entrants:
            if entrant not in kept:
                digest = entrant.choice.digest
                self._store.put(entrant.choice.key, sketches[digest], pruned=True)
        return kept

    def _enter(
        self, work: Sequence[tuple[Layer, Sequence[Candidate]]], folder: Path
    ) -> Sequence[_Entrant]:
        """Compile the candidates, and bring them to the device."""
        entrants: list[_Entrant] = []
        for built in build_all(work, self._target, folder, self._say):
            module = self._device.load(built.library)
            for name, (choice, emitted) in built.functions.items():
                enter = partial(_timer, self._device, module, name, choice, emitted)
                entrants.append(
                    _Entrant(layer=built.layer, choice=choice, enter=enter, timer=enter())
                )
        return entrants


def _within(
    factor: float, entrants: Sequence[_Entrant], records: Mapping[str, LatencyRecord]
) -> Sequence[_Entrant]:
    """Those within `factor` of the best of their layer."""
    took = in_quietest_turns({e: records[e.choice.digest].samples_us for e in entrants})
    best: dict[Layer, float] = {}
    for entrant, us in took.items():
        best[entrant.layer] = min(best.get(entrant.layer, us), us)
    return [e for e in entrants if took[e] <= factor * best[e.layer]]


def _timer(device: Device, module: Any, name: str, choice: Candidate, emitted: Emitted) -> Timer:
    return device_timer(device, module, name, _arguments(choice, emitted, device))


def _arguments(choice: Candidate, emitted: Emitted, device: Device) -> list[Any]:
    """Device tensors in the order of the function's parameters."""
    tensors = choice.workload.tensors
    reads = [random_buffer(tensors[read.tensor], read.layout) for read in emitted.reads]
    writes = [
        np.zeros(buffer_shape(tensors[write.tensor], write.layout), buffer_dtype(write.layout))
        for write in emitted.writes
    ]
    return [device.tensor(array) for array in (*reads, *emitted.constants, *writes)]
