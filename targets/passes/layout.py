"""Pass 4, lay out: in which representations every tensor exists, decided by who reads it."""

from __future__ import annotations

from collections.abc import Mapping

from mpqdeploy.targets.kernels.base import Kernel
from mpqdeploy.targets.layout import SHORT, Layout, Layouts
from mpqdeploy.targets.program import Program, operands_of


def plan_layouts(program: Program, kernels: Mapping[str, Kernel]) -> Layouts:
    """Layouts of every tensor, from the kernel chosen for every step (`kernels[step.name]`).

    Readers that want the same kind share one buffer with the largest padding any of them needs, so
    that a producer writes each representation once, border included, and nothing is ever copied.
    """
    wanted: dict[str, dict[str, Layout]] = {name: {} for name in program.tensors}
    for step in program.steps:
        operand = kernels[step.name].operand(step, program.tensors)
        for given in operands_of(step.anchor):
            if operand is not None:
                reals = operand.kind == "reals"
                _want(wanted[given], _loaded(program, given) if reals else operand)
        for load in step.loads():
            _want(wanted[load.tensor], _loaded(program, load.tensor))
    for port in (*program.inputs, *program.outputs):
        _want(wanted[port.tensor], Layout(kind="float"))
    return {name: tuple(layouts.values()) for name, layouts in wanted.items()}


def _loaded(program: Program, tensor: str) -> Layout:
    """What a `Load` reads: channels together, but for the model's own inputs."""
    grid = program.tensors[tensor].grid
    if grid is not None:
        return Layout(kind="shorts" if grid == SHORT else "bytes")
    given = any(port.tensor == tensor for port in program.inputs)
    return Layout(kind="float" if given else "reals")


def _want(layouts: dict[str, Layout], layout: Layout) -> None:
    """Add `layout`, or widen the border of the one of its kind."""
    known = layouts.get(layout.kind, layout)
    a, b = known.padding, layout.padding
    padding = (max(a[0], b[0]), max(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))
    layouts[layout.kind] = Layout(kind=layout.kind, padding=padding)
