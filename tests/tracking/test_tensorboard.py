from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tracking.epochs import epoch

pytest.importorskip("tensorboard")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mpqdeploy.tracking.scalars import scalars
from mpqdeploy.tracking.tensorboard import TensorBoard


def read(place: Path) -> Any:
    events = EventAccumulator(str(place))
    events.Reload()
    return events


def test_every_scalar_of_every_epoch_is_in_the_event_file(tmp_path: Path) -> None:
    tracker = TensorBoard(tmp_path)
    for number in (1, 2):
        tracker.epoch("search-1", epoch(number))
    tracker.epoch("search-1", epoch(1, round_=1))
    # Readable before it is closed: a run is looked at while it runs.
    events = read(tmp_path / "search-1" / "round-0")
    assert set(events.Tags()["scalars"]) == set(scalars(epoch()))
    assert [(e.step, e.value) for e in events.Scalars("loss/train_ce")] == [(1, 2.0), (2, 1.0)]
    tracker.close()
    later = read(tmp_path / "search-1" / "round-1")
    assert [e.step for e in later.Scalars("accuracy/val")] == [1]


def test_an_epoch_that_a_killed_run_repeats_is_shown_once(tmp_path: Path) -> None:
    first = TensorBoard(tmp_path)
    for number in (1, 2, 3):
        first.epoch("search-1", epoch(number, accuracy=0.25))
    again = TensorBoard(tmp_path)
    again.epoch("search-1", epoch(3, accuracy=0.75))
    found = read(tmp_path / "search-1" / "round-0").Scalars("accuracy/val")
    assert [(e.step, e.value) for e in found] == [(1, 0.25), (2, 0.25), (3, 0.75)]
