"""Random numbers that belong to a trial, and points that were not tried."""

from __future__ import annotations

from dataclasses import replace

from mpqdeploy.search.bomp.engines import load_engine
from mpqdeploy.search.bomp.parameters import Ordinal
from mpqdeploy.search.bomp.space import Space
from mpqdeploy.search.bomp.trial import Trial
from tests.search.bomp.problems import LAYERED, history_of, simulate


def test_numbers_depend_on_seed_trial_and_purpose_alone() -> None:
    history = history_of(simulate("random", 3))

    def first(**changes: int) -> float:
        return float(replace(history, **changes).rng("parent").random())  # type: ignore[arg-type]

    assert first() == first()
    assert len({first(), first(seed=1), first(number=9), history.rng("other").random()}) == 4
    assert history.rng("parent", 9).random() == first(number=9)


def test_every_engine_of_a_seed_begins_with_the_same_points() -> None:
    starts = [[t.point for t in simulate(name, 5, seed=4)] for name in ("random", "bo")]
    assert starts[0] == starts[1]


def test_a_point_that_was_tried_is_walked_away_from() -> None:
    trials = simulate("random", 6)
    history = history_of(trials)
    for trial in trials:
        other = history.untried(trial.point, history.rng("test"))
        assert LAYERED.key(LAYERED.validate(other)) not in history.tried
    fresh = next(p for p in LAYERED.points() if LAYERED.key(p) not in history.tried)
    assert history.untried(fresh, history.rng("test")) == fresh


def test_where_all_were_tried_one_comes_again() -> None:
    space = Space(Ordinal(name="bits", values=(1, 2)))
    trials = [
        Trial(number=number, state="failed", point={"bits": bits}, reason="no")
        for number, bits in enumerate((1, 2))
    ]
    history = history_of(trials, space=space)
    assert history.untried({"bits": 2}, history.rng("test")) == {"bits": 2}
    assert space.validate(load_engine("evolution").propose(history))
