"""Small spaces, drawn and fixed, and a network whose accuracy and cost are formulas."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import hypothesis.strategies as st

from mpqdeploy.core import Budget
from mpqdeploy.search.bomp.engines import load_engine
from mpqdeploy.search.bomp.history import History
from mpqdeploy.search.bomp.objective import Objective
from mpqdeploy.search.bomp.parameters import Categorical, Ordinal, Parameter, Point, Value, When
from mpqdeploy.search.bomp.score import violations
from mpqdeploy.search.bomp.space import Space
from mpqdeploy.search.bomp.trial import Outcome, Trial

# 2 * (4 + 4*4 + 4*4*4) networks: the bits of a layer count where there is such a layer.
LAYERED = Space(
    Categorical(name="kernel", values=("plain", "wide")),
    Ordinal(name="depth", values=(1, 2, 3)),
    Ordinal(name="bits1", values=(1, 2, 4, 8)),
    Ordinal(name="bits2", values=(1, 2, 4, 8), when=When(parent="depth", values=(2, 3))),
    Ordinal(name="bits3", values=(1, 2, 4, 8), when=When(parent="depth", values=(3,))),
)
BYTES = Budget(metric="bytes", limit=900.0)


def formula(point: Point, number: int = 0) -> Outcome:
    """More layers and bits are more accurate, with less and less to gain, and cost more."""
    bits = [float(point[f"bits{i}"]) for i in (1, 2, 3) if f"bits{i}" in point]
    wide = point["kernel"] == "wide"
    gain = sum(0.2 * 0.7**i * (1 - 2**-b) for i, b in enumerate(bits))
    return Outcome(
        accuracy=0.4 + gain + 0.02 * wide,
        costs={"bytes": (100.0 + 20.0 * wide) * sum(bits), "bops": 1e4 * sum(bits)},
    )


def history_of(
    trials: Sequence[Trial],
    *,
    space: Space = LAYERED,
    budgets: tuple[Budget, ...] = (BYTES,),
    objective: Objective = Objective(),  # noqa: B008 - frozen
    seed: int = 0,
    initial: int = 5,
) -> History:
    return History(
        space=space,
        objective=objective,
        budgets=budgets,
        trials=tuple(trials),
        number=len(trials),
        initial=initial,
        seed=seed,
    )


def completed(number: int, point: Point, outcome: Outcome, *budgets: Budget) -> Trial:
    return Trial(
        number=number,
        state="complete",
        point=point,
        outcome=outcome,
        violations=violations(outcome.costs, budgets),
    )


def simulate(
    engine: str,
    trials: int,
    *,
    evaluate: Callable[[Point, int], Outcome] = formula,
    space: Space = LAYERED,
    budgets: tuple[Budget, ...] = (BYTES,),
    objective: Objective = Objective(),  # noqa: B008 - frozen
    seed: int = 0,
) -> list[Trial]:
    """A study without a storage."""
    done: list[Trial] = []
    proposer = load_engine(engine)
    for number in range(trials):
        history = history_of(done, space=space, budgets=budgets, objective=objective, seed=seed)
        point = proposer.propose(history)
        done.append(completed(number, point, evaluate(point, number), *budgets))
    return done


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    """Up to five parameters of up to three values; any of them may hang on an earlier one."""
    parameters: list[Parameter] = []
    for position in range(draw(st.integers(1, 5))):
        values: tuple[Value, ...] = draw(
            st.sampled_from([(1,), (1, 2), (1, 2, 4), (0.5, 1.0, 1.5), ("a", "b"), ("a", "b", "c")])
        )
        when = None
        if parameters and draw(st.booleans()):
            parent = draw(st.sampled_from(parameters))
            chosen = draw(st.sets(st.sampled_from(parent.values), min_size=1))
            when = When(parent=parent.name, values=tuple(v for v in parent.values if v in chosen))
        kind = draw(st.sampled_from([Ordinal, Categorical]))
        parameters.append(kind(name=f"p{position}", values=values, when=when))
    return Space(*parameters)
