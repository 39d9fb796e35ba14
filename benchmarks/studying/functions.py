"""Functions on discrete spaces, in the place of networks: what is best on them is known or cheap.

Each has an accuracy and a cost, as a network has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mpqdeploy.core import Budget
from mpqdeploy.search.bomp.front import Pair
from mpqdeploy.search.bomp.objective import Objective
from mpqdeploy.search.bomp.parameters import Categorical, Ordinal, Parameter, Point, When
from mpqdeploy.search.bomp.space import Space
from mpqdeploy.search.bomp.trial import Outcome

BITS = (1, 2, 4, 8)


@dataclass(frozen=True, kw_only=True)
class Function:
    """A problem that engines race on.

    `reference` is the worst corner of its hypervolume. `admit` makes of a proposal, and the keys of
    what was tried, the point that is evaluated: another one where not every point is known.
    """

    name: str
    space: Space
    evaluate: Callable[[Point], Outcome]
    budgets: tuple[Budget, ...] = ()
    objective: Objective = Objective()  # noqa: RUF009 - frozen
    reference: Pair | None = None
    admit: Callable[[Point, frozenset[str]], Point] = lambda point, tried: point


def functions() -> tuple[Function, ...]:
    """All of them, in the order of the table."""
    return (hartmann(), bits(), stages(), stages_front())


def hartmann() -> Function:
    """Hartmann's function of six variables, 11 steps each; least -3.32 on the continuous cube.

    The cost, 1 + sum of x, is bounded where the optimum just fits.
    """
    alpha = np.array([1.0, 1.2, 3.0, 3.2])
    widths = np.array(
        [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14],
         [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
    )  # fmt: skip
    centres = 1e-4 * np.array(
        [[1312, 1696, 5569, 124, 8283, 5886], [2329, 4135, 8307, 3736, 1004, 9991],
         [2348, 1451, 3522, 2883, 3047, 6650], [4047, 8828, 8732, 5743, 1091, 381]]
    )  # fmt: skip
    names = [f"x{i}" for i in range(6)]

    def evaluate(point: Point) -> Outcome:
        x = np.array([float(point[name]) for name in names])
        exponents = (widths * (x - centres) ** 2).sum(axis=1)
        value = float((alpha * np.exp(-exponents)).sum())
        return Outcome(accuracy=value, costs={"bytes": 1 + float(x.sum())})

    steps = tuple(round(0.1 * i, 1) for i in range(11))
    return Function(
        name="hartmann",
        space=Space(*(Ordinal(name=name, values=steps) for name in names)),
        evaluate=evaluate,
        budgets=(Budget(metric="bytes", limit=3.2),),
    )


def bits(layers: int = 20) -> Function:
    """Bits of 20 layers of unlike worth and size, 3 bits on average allowed: 4^20 networks."""
    rng = np.random.default_rng(1)
    worth, sizes = rng.uniform(0.2, 1.2, layers), rng.uniform(0.2, 1.2, layers)
    names = [f"bits{i}" for i in range(layers)]

    def evaluate(point: Point) -> Outcome:
        chosen = np.array([float(point[name]) for name in names])
        lost = float((worth * 2.0**-chosen).sum() / worth.sum())
        return Outcome(accuracy=1 - lost, costs={"bytes": float((sizes * chosen).sum())})

    return Function(
        name="bits",
        space=Space(*(Ordinal(name=name, values=BITS) for name in names)),
        evaluate=evaluate,
        budgets=(Budget(metric="bytes", limit=float(3 * sizes.sum())),),
    )


def stages() -> Function:
    """Four stages of a MobileNet-like network in closed form, with conditional repeats.

    Accuracy saturates in capacity, suffers most where a stage is coarse and narrow at once, and
    depends on the stages before; cost is the bytes of the weights. It has no noise: a table of
    networks has that of real ones.
    """
    return Function(
        name="stages",
        space=_stages_space(),
        evaluate=_stages,
        budgets=(Budget(metric="bytes", limit=60e3),),
    )


def stages_front() -> Function:
    """The same network for the front of accuracy and bytes, without a budget."""
    return Function(
        name="stages-front",
        space=_stages_space(),
        evaluate=_stages,
        objective=Objective(kind="front", metric="bytes"),
        reference=(0.1, 600e3),
    )


def _stages_space() -> Space:
    parameters: list[Parameter] = [Ordinal(name="width", values=(0.5, 0.75, 1.0, 1.25, 1.5))]
    for stage in range(4):
        repeats = f"s{stage}.repeats"
        parameters += [
            Categorical(name=f"s{stage}.kernel", values=(3, 5)),
            Ordinal(name=f"s{stage}.expansion", values=(1, 2, 4, 6)),
            Ordinal(name=repeats, values=(1, 2, 3)),
            Ordinal(name=f"s{stage}.bits1", values=BITS),
            Ordinal(name=f"s{stage}.bits2", values=BITS, when=When(parent=repeats, values=(2, 3))),
            Ordinal(name=f"s{stage}.bits3", values=BITS, when=When(parent=repeats, values=(3,))),
        ]
    return Space(*parameters)


def _stages(point: Point) -> Outcome:
    signal, size, width = 1.0, 0.0, float(point["width"])
    for stage, channels in enumerate((16, 24, 40, 64)):
        wide = width * channels
        expansion, kernel = float(point[f"s{stage}.expansion"]), float(point[f"s{stage}.kernel"])
        for block in range(1, int(point[f"s{stage}.repeats"]) + 1):
            bit = float(point[f"s{stage}.bits{block}"])
            weights = 2 * expansion * wide**2 + kernel**2 * expansion * wide
            size += weights * bit / 8
            capacity = np.log2(expansion * wide) * (1 + 0.04 * (kernel - 3)) / block**0.5
            # A coarse block loses what comes in; a residual path carries it past repeats.
            kept = 1 - 0.5 * 2.0**-bit / (block * np.log2(1 + expansion))
            signal = signal * kept + 0.02 * capacity * (1 - 2.0**-bit)
    return Outcome(accuracy=float(1 - 0.9 * np.exp(-signal)), costs={"bytes": float(size)})
