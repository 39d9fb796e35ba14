"""`tune`: the fastest kernel and schedule of every layer of a program, by measurement."""

from __future__ import annotations

from dataclasses import dataclass

from mpqdeploy.core import ModelError, Site
from mpqdeploy.targets.devices import Device
from mpqdeploy.targets.passes.select import layer_of
from mpqdeploy.targets.profile import Progress, profile
from mpqdeploy.targets.program import Program
from mpqdeploy.targets.records import RecordStore
from mpqdeploy.targets.target import Target


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """Candidates (a kernel with a schedule, for a layer): how many there are, and were timed now.

    The others were in the record store.
    """

    candidates: int
    timed: int


def tune(
    program: Program,
    target: Target,
    store: RecordStore,
    *,
    progress: Progress | None = None,
    device: Device | None = None,
) -> Tuning:
    """Time every candidate of the program's convolutions and fully connected layers that `store`
    has no record of; what it holds afterwards, `select` finds there.

    The device is this machine unless given. Raises `ModelError` where the program has no layer to
    tune: nothing would have been measured; `TargetError` where this machine is not the target.
    """
    counts: list[tuple[int, int]] = []

    def count(done: int, total: int, layer: str) -> None:
        counts.append((done, total))
        if progress:
            progress(done, total, layer)

    if device is None:
        target.require_here()
    layers = {step.name: layer_of(program, step) for step in program.steps}
    sites = [
        Site(name=name, geometry=layer[0], pinned=layer[1])
        for name, layer in layers.items()
        if layer is not None
    ]
    if not sites:
        raise ModelError(
            "there is nothing to tune: no integer convolution or fully connected layer.",
            hint="Compile without tuning; the compile report names what fell back to float.",
        )
    profile(sites, (), target, store, progress=count, device=device)
    (before, total), (after, _) = counts[0], counts[-1]
    return Tuning(candidates=total, timed=after - before)
