"""The ways to compute a layer on a target, each with the key of its measurement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mpqdeploy.core import Geometry, Precision
from mpqdeploy.targets.fingerprint import host_fingerprint, short_hash
from mpqdeploy.targets.kernels.base import Kernel, Schedule
from mpqdeploy.targets.records import Entry, RecordKey, RecordStore
from mpqdeploy.targets.synthesize import VERSION, Workload, synthesize
from mpqdeploy.targets.target import Target


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """One kernel with one schedule for one layer."""

    kernel: Kernel
    schedule: Schedule
    workload: Workload
    key: RecordKey
    digest: str


def candidates(
    geometry: Geometry,
    precision: Precision,
    target: Target,
    machine: str,
    kernels: Sequence[Kernel] | None = None,
) -> tuple[Candidate, ...]:
    """Every schedule of every kernel that computes the layer on `target`, preferred ones first.

    `machine` is a fingerprint's short hash, `kernels` the registry unless given.
    """
    workload = synthesize(geometry, precision)
    found: list[Candidate] = []
    for kernel in _registry() if kernels is None else kernels:
        if not kernel.matches(workload.step, workload.tensors, target.isa):
            continue
        for schedule in kernel.schedules(workload.step, workload.tensors, target.isa):
            key = RecordKey(
                geometry=geometry,
                precision=precision,
                kernel=kernel.name,
                kernel_version=kernel.version,
                schedule=schedule,
                workload=VERSION,
                target=target.key,
                machine=machine,
            )
            found.append(
                Candidate(
                    kernel=kernel,
                    schedule=schedule,
                    workload=workload,
                    key=key,
                    digest=key.digest,
                )
            )
    return tuple(found)


def fastest(choices: Iterable[Candidate], entries: Mapping[str, Entry]) -> Candidate | None:
    """The candidate with the least stored median, or None where nothing of them is stored.

    Pruned entries do not count: each lost against one that does.
    """
    timed = [c for c in choices if c.digest in entries and not entries[c.digest].pruned]
    return min(timed, key=lambda c: entries[c.digest].median_us, default=None)


def best(
    store: RecordStore,
    geometry: Geometry,
    precision: Precision,
    target: Target,
    *,
    machine: str | None = None,
    kernels: Sequence[Kernel] | None = None,
) -> tuple[str, Schedule] | None:
    """Name and schedule of the fastest measured kernel; None where the layer was never profiled.

    Only registered kernels in their present version count. `machine` is this one unless given.
    """
    machine = machine or short_hash(host_fingerprint())
    choices = candidates(geometry, precision, target, machine, kernels)
    winner = fastest(choices, store.entries(target.key, machine))
    return (winner.kernel.name, winner.schedule) if winner else None


def _registry() -> Sequence[Kernel]:
    from mpqdeploy.targets.kernels import KERNELS

    registered: Sequence[Kernel] = KERNELS
    return registered
