"""`profile`: the latency table of a network's sites, from kernels that are compiled and timed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from mpqdeploy.core import CostTable, Geometry, Precision, Protocol, Site, TargetError
from mpqdeploy.targets.candidates import Candidate, best, candidates, fastest
from mpqdeploy.targets.devices import Device, LocalDevice
from mpqdeploy.targets.fingerprint import short_hash
from mpqdeploy.targets.kernels.base import Kernel
from mpqdeploy.targets.records import Entry, RecordStore
from mpqdeploy.targets.target import Target
from mpqdeploy.targets.trial import Functions, build, race

__all__ = ["KERNEL_PROTOCOL", "Progress", "best", "profile"]

KERNEL_PROTOCOL = Protocol(warmup=3, samples=15, inner=1)
LAYERS_PER_CORE = 2  # compiled together on all cores, before they are timed on a quiet machine

Progress = Callable[[int, int, str], None]
"""`progress(done, total, layer)`: candidates with a stored latency, of how many, and what is being
compiled or timed."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Layer:
    """A distinct geometry at a precision: all its candidates, and those not stored yet."""

    geometry: Geometry
    precision: Precision
    choices: tuple[Candidate, ...]
    missing: tuple[Candidate, ...]

    def __str__(self) -> str:
        g = self.geometry
        kernel, image = ("x".join(map(str, pair)) for pair in (g.kernel, g.in_size))
        return f"{kernel} {g.in_channels}->{g.out_channels} on {image} at {self.precision}"


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
    """Latency in microseconds of every site at every candidate precision, pinned sites at theirs.

    Equal geometries are timed once. What `store` holds is not timed again, and every measurement
    is stored at once, so that a killed profile continues. The device is this machine unless given,
    the kernels are the registered ones. Batch size is 1; threads are the target's.
    Raises `TargetError` where no kernel of the target computes a site, naming it.
    """
    device = device or LocalDevice(target)
    protocol = replace(protocol, threads=target.threads, batch=1)
    machine = short_hash(device.fingerprint)
    entries = store.entries(target.key, machine)
    layers: dict[tuple[Geometry, Precision], _Layer] = {}
    for site, precision in _pairs(sites, precisions):
        if (site.geometry, precision) not in layers:
            choices = candidates(site.geometry, precision, target, machine, kernels)
            _require(choices, site, precision, target)
            layers[site.geometry, precision] = _Layer(
                geometry=site.geometry,
                precision=precision,
                choices=choices,
                missing=tuple(choice for choice in choices if choice.digest not in entries),
            )
    meter = _Meter(layers.values(), progress)
    pending = [layer for layer in layers.values() if layer.missing]
    for layer, functions, library in _built(pending, target, meter):
        winner = fastest(layer.choices, entries)
        limit = entries[winner.digest].median_us if winner else float("inf")
        race(functions, library, device, store, protocol, limit_us=limit)
        meter.add(layer)
    return _table(sites, precisions, layers, store.entries(target.key, machine))


class _Meter:
    """Counts candidates for the progress callback."""

    def __init__(self, layers: Iterable[_Layer], progress: Progress | None) -> None:
        self._progress = progress
        counts = [(len(layer.choices), len(layer.missing)) for layer in layers]
        self._total = sum(choices for choices, _ in counts)
        self._done = self._total - sum(missing for _, missing in counts)
        self.say("")

    def say(self, what: str) -> None:
        if self._progress:
            self._progress(self._done, self._total, what)

    def add(self, layer: _Layer) -> None:
        self._done += len(layer.missing)
        self.say(f"timed {layer}")


def _built(
    layers: Sequence[_Layer], target: Target, meter: _Meter
) -> Iterator[tuple[_Layer, Functions, Path]]:
    """Every layer with its library.

    Some layers at a time are compiled on all cores, and handed out when no compiler runs any more:
    it would disturb the timing.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    workers = cores or 1
    size = workers * LAYERS_PER_CORE
    for start in range(0, len(layers), size):
        batch = layers[start : start + size]
        with tempfile.TemporaryDirectory(prefix="mpqdeploy-") as folder:
            libraries = [Path(folder) / f"layer{index}.so" for index in range(len(batch))]
            pool = ThreadPoolExecutor(workers)
            try:
                futures = [
                    pool.submit(build, layer.missing, target, library)
                    for layer, library in zip(batch, libraries, strict=True)
                ]
                functions = []
                for layer, future in zip(batch, futures, strict=True):
                    meter.say(f"compiling {layer}")
                    functions.append(future.result())
            finally:
                pool.shutdown(cancel_futures=True)
            yield from zip(batch, functions, libraries, strict=True)


def _pairs(
    sites: Sequence[Site], precisions: Sequence[Precision]
) -> Iterator[tuple[Site, Precision]]:
    for site in sites:
        for precision in (site.pinned,) if site.pinned else precisions:
            yield site, precision


def _require(
    choices: Sequence[Candidate], site: Site, precision: Precision, target: Target
) -> None:
    if not choices:
        raise TargetError(
            f"target {target.name!r} has no kernel for site {site.name!r} at {precision}.",
            hint="Leave this precision out of the candidates, or pin the site to another one.",
        )


def _table(
    sites: Sequence[Site],
    precisions: Sequence[Precision],
    layers: Mapping[tuple[Geometry, Precision], _Layer],
    entries: Mapping[str, Entry],
) -> CostTable:
    table: dict[str, dict[Precision, float]] = {}
    for site, precision in _pairs(sites, precisions):
        winner = fastest(layers[site.geometry, precision].choices, entries)
        if winner is None:
            raise TargetError(
                f"site {site.name!r} has no measured kernel at {precision}.",
                hint="Its records left the store while it was profiled: profile again.",
            )
        table.setdefault(site.name, {})[precision] = entries[winner.digest].median_us
    return CostTable(metric="latency", unit="us", entries=table)
