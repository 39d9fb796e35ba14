"""The ways to compute a layer on a target, each with the key of its measurement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mpqdeploy.core import Geometry, Precision
from mpqdeploy.targets.fingerprint import host_fingerprint, short_hash
from mpqdeploy.targets.kernels.base import Kernel, Schedule
from mpqdeploy.targets.kernels.shares import shared_schedules
from mpqdeploy.targets.records import Entry, RecordKey, RecordStore
from mpqdeploy.targets.synthesize import VERSION, Workload, synthesize
from mpqdeploy.targets.target import Target
from mpqdeploy.targets.turns import in_quietest_turns


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """One kernel with one schedule for one layer; `default` where it is the kernel's first."""

    kernel: Kernel
    schedule: Schedule
    default: bool
    workload: Workload
    key: RecordKey
    digest: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """A distinct geometry at a precision: all its candidates, and what is stored of them."""

    geometry: Geometry
    precision: Precision
    choices: tuple[Candidate, ...]
    entries: Mapping[str, Entry]

    @property
    def complete(self) -> bool:
        """Whether nothing of it is left to be timed, and something won."""
        entries = [self.entries.get(choice.digest) for choice in self.contenders]
        return all(entry is not None and not entry.pruned for entry in entries)

    @property
    def contenders(self) -> tuple[Candidate, ...]:
        """What may be the fastest: nothing that was pruned, nor what was never tried because its
        kernel's default was.

        All, where what the others lost to is no candidate any more.
        """
        stored = [choice for choice in self.choices if choice.digest in self.entries]
        pruned = [choice for choice in stored if self.entries[choice.digest].pruned]
        dropped = {choice.kernel.name for choice in pruned if choice.default}
        tried = [c for c in self.choices if c in stored or c.kernel.name not in dropped]
        return tuple(c for c in tried if c not in pruned) or self.choices

    def __str__(self) -> str:
        g = self.geometry
        kernel, image = ("x".join(map(str, pair)) for pair in (g.kernel, g.in_size))
        return f"{kernel} {g.in_channels}->{g.out_channels} on {image} at {self.precision}"


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
    for kernel in kernels_for(target) if kernels is None else kernels:
        if not kernel.matches(workload.step, workload.tensors, target.isa):
            continue
        step, tensors = workload.step, workload.tensors
        schedules = shared_schedules(kernel, step, tensors, target.isa, target.threads)
        for index, schedule in enumerate(schedules):
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
                    default=index == 0,
                    workload=workload,
                    key=key,
                    digest=key.digest,
                )
            )
    return tuple(found)


TIE = 1.03  # times of single layers this close do not tell which is faster inside a network


def fastest(choices: Iterable[Candidate], entries: Mapping[str, Entry]) -> Candidate | None:
    """The candidate that took least in the turns that were least disturbed (`targets/turns.py`),
    or None where nothing of them is stored.

    Of those that are about as fast, the first, because the likely best are declared first: a layer
    is timed with its data in the caches, of which a network's other layers leave less [o].
    Pruned entries do not count, nor those that were timed once where others were twice: each lost
    against one that does.
    """
    timed = {c: entries[c.digest] for c in choices if c.digest in entries}
    kept = {c: entry.samples_us for c, entry in timed.items() if not entry.pruned}
    most = max((len(samples) for samples in kept.values()), default=0)
    took = in_quietest_turns({c: us for c, us in kept.items() if len(us) == most})
    least = min(took.values(), default=0.0)
    return next((c for c, us in took.items() if us <= TIE * least), None)


def ranking(
    store: RecordStore,
    geometry: Geometry,
    precision: Precision,
    target: Target,
    *,
    machine: str | None = None,
    kernels: Sequence[Kernel] | None = None,
) -> tuple[tuple[str, Schedule], ...]:
    """Names and schedules of the measured kernels, the fastest first; none where the layer was
    never profiled. A step of a network may not offer all that its layer was timed with.

    Only registered kernels in their present version count. `machine` is this one unless given.
    """
    machine = machine or short_hash(host_fingerprint())
    choices = candidates(geometry, precision, target, machine, kernels)
    entries = store.entries(target.key, machine, [choice.digest for choice in choices])
    ranked: list[Candidate] = []
    while winner := fastest((choice for choice in choices if choice not in ranked), entries):
        ranked.append(winner)
    return tuple((winner.kernel.name, winner.schedule) for winner in ranked)


def kernels_for(target: Target) -> Sequence[Kernel]:
    """The registry's, imported where they are needed: kernels load TVM."""
    from mpqdeploy.targets import kernels

    return kernels.kernels_for(target.features)
