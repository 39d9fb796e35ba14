"""`profile`: the latency table of a network's sites, from kernels that are compiled and timed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from mpqdeploy.core import CostTable, Geometry, Precision, Protocol, Site, TargetError
from mpqdeploy.targets.candidates import Layer, candidates, fastest
from mpqdeploy.targets.devices import Device, LocalDevice
from mpqdeploy.targets.fingerprint import short_hash
from mpqdeploy.targets.kernels.base import Kernel
from mpqdeploy.targets.records import Entry, RecordStore
from mpqdeploy.targets.target import Target
from mpqdeploy.targets.trial import Close, Trial

__all__ = ["KERNEL_PROTOCOL", "Progress", "profile"]

KERNEL_PROTOCOL = Protocol(warmup=3, samples=15, inner=1)

Progress = Callable[[int, int, str], None]
"""`progress(done, total, layer)`: candidates with a stored latency, of how many, and what is being
compiled or timed."""

_Layers = Mapping[tuple[Geometry, Precision], Layer]


def profile(
    sites: Sequence[Site],
    precisions: Sequence[Precision],
    target: Target,
    store: RecordStore,
    *,
    protocol: Protocol = KERNEL_PROTOCOL,
    progress: Progress | None = None,
    device: Device | None = None,
    kernels: Sequence[Kernel] | None = None,
) -> CostTable:
    """Latency in microseconds of every site at every candidate precision, pinned sites at theirs;
    of a site that runs several times, the sum of its runs.

    Equal geometries are timed once, all precisions in turn because the search chooses between
    those. A geometry of which `store` holds everything is not timed again; one of which something
    is missing is timed anew, since records of different minutes cannot be compared: a machine's
    clock may have changed by half [o]. What is close is timed again after all others (`Trial`). A
    killed profile has lost one geometry at most, and what was to be timed again.
    The device is this machine unless given, the kernels are the registered ones. Batch size is 1;
    threads are the target's.
    Raises `TargetError` where no kernel of the target computes a site, naming it.
    """
    device = device or LocalDevice(target)
    protocol = replace(protocol, threads=target.threads, batch=1)
    machine = short_hash(device.fingerprint)
    layers = _layers(sites, precisions, target, machine, kernels, store)
    pending = _pending(layers)
    meter = _Meter(layers.values(), pending, progress)
    trial = Trial(target, device, store, protocol, meter.say)
    close: list[Sequence[Close]] = []
    for together in pending:
        with tempfile.TemporaryDirectory(prefix="mpqdeploy-") as folder:
            close.append(trial.run(together, Path(folder)))
        meter.add(together)
    for together, contenders in zip(pending, close, strict=True):
        if contenders:
            meter.say(f"timing again {together[-1]}")
            trial.again(contenders)
    return _table(sites, precisions, layers, store.entries(target.key, machine))


def _pending(layers: _Layers) -> Sequence[Sequence[Layer]]:
    """The layers of every geometry of which there is anything left to time."""
    found: dict[Geometry, list[Layer]] = {}
    for (geometry, _), layer in layers.items():
        found.setdefault(geometry, []).append(layer)
    return [same for same in found.values() if not all(layer.complete for layer in same)]


class _Meter:
    """Counts candidates for the progress callback."""

    def __init__(
        self,
        layers: Iterable[Layer],
        pending: Iterable[Iterable[Layer]],
        progress: Progress | None,
    ) -> None:
        self._progress = progress
        self._total = sum(len(layer.choices) for layer in layers)
        self._done = self._total - sum(len(layer.contenders) for layer in chain(*pending))
        self.say("")

    def say(self, what: str) -> None:
        if self._progress:
            self._progress(self._done, self._total, what)

    def add(self, layers: Sequence[Layer]) -> None:
        self._done += sum(len(layer.contenders) for layer in layers)
        self.say(f"timed {layers[-1]}")


def _layers(
    sites: Sequence[Site],
    precisions: Sequence[Precision],
    target: Target,
    machine: str,
    kernels: Sequence[Kernel] | None,
    store: RecordStore,
) -> _Layers:
    """The distinct layers. Raises `TargetError` for a site that has no candidate."""
    entries = store.entries(target.key, machine)
    layers: dict[tuple[Geometry, Precision], Layer] = {}
    for site, geometry, precision in _runs(sites, precisions):
        if (geometry, precision) in layers:
            continue
        choices = candidates(geometry, precision, target, machine, kernels)
        if not choices:
            raise TargetError(
                f"target {target.name!r} has no kernel for site {site.name!r} at {precision}.",
                hint="Leave this precision out of the candidates, or pin the site to another one.",
            )
        layers[geometry, precision] = Layer(
            geometry=geometry, precision=precision, choices=choices, entries=entries
        )
    return layers


def _runs(
    sites: Sequence[Site], precisions: Sequence[Precision]
) -> Iterator[tuple[Site, Geometry, Precision]]:
    for site in sites:
        for precision in (site.pinned,) if site.pinned else precisions:
            for geometry in site.runs:
                yield site, geometry, precision


def _table(
    sites: Sequence[Site],
    precisions: Sequence[Precision],
    layers: _Layers,
    entries: Mapping[str, Entry],
) -> CostTable:
    table: dict[str, dict[Precision, float]] = {}
    for site, geometry, precision in _runs(sites, precisions):
        winner = fastest(layers[geometry, precision].choices, entries)
        if winner is None:
            raise TargetError(
                f"site {site.name!r} has no measured kernel at {precision}.",
                hint="Its records left the store while it was profiled: profile again.",
            )
        costs = table.setdefault(site.name, {})
        costs[precision] = costs.get(precision, 0.0) + entries[winner.digest].median_us
    return CostTable(metric="latency", unit="us", entries=table)
