"""One study, one PostgreSQL server, several worker processes, one of them killed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from mpqdeploy.search.bomp.study import StudySettings
from tests.search.bomp.server import Server, binaries, running
from tests.search.bomp.workers import Job, start

pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
PROGRAMS = binaries()
SETTINGS = StudySettings(engine="evolution", trials=18, initial=4)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    if PROGRAMS is None:
        pytest.skip("no PostgreSQL server here (Debian: apt-get install postgresql)")
    with running(PROGRAMS) as server:
        yield server


def wait_for(worker: BaseProcess, condition: Callable[[], bool]) -> None:
    """Wait while `worker` lives."""
    while not condition():
        assert worker.is_alive()
        time.sleep(0.01)


def test_three_workers_one_killed_no_trial_lost_none_run_twice(
    server: Server, tmp_path: Path
) -> None:
    job = Job(storage=server.url, log=tmp_path / "log", settings=SETTINGS, seconds=0.2)
    # All three find an empty database, and make the tables at once.
    workers = [start(job) for _ in range(3)]
    victim = workers[1].pid

    def at_work() -> bool:
        """In the middle of a trial that is not its first."""
        begun = [number for number, process in job.started() if process == victim]
        return len(begun) > 1 and job.ended()[begun[-1]] == 0

    wait_for(workers[1], at_work)
    workers[1].kill()
    for worker in workers:
        worker.join(240)
    assert [worker.exitcode for worker in workers] == [0, -9, 0]

    trials = job.open().trials()
    assert [trial.number for trial in trials] == list(range(18))
    assert {trial.state for trial in trials} == {"complete"}
    assert set(job.ended()) == set(range(18))
    assert set(job.ended().values()) == {1}
    numbers = [number for number, _ in job.started()]
    twice = {number for number in numbers if numbers.count(number) > 1}
    lost = [number for number, process in job.started() if process == victim][-1]
    # Only what was cut off began again, and nothing a third time.
    assert twice == {lost}
    assert len(numbers) == 19
    assert len({process for _, process in job.started()}) == 3


@pytest.mark.slow
def test_a_server_that_is_started_anew_is_waited_for(server: Server, tmp_path: Path) -> None:
    job = Job(
        storage=server.url, log=tmp_path / "log", settings=SETTINGS, seconds=0.05, name="restart"
    )
    worker = start(job)
    wait_for(worker, lambda: len(job.ended()) >= 3)
    server.stop()
    time.sleep(1.0)
    server.start()
    worker.join(240)
    assert worker.exitcode == 0
    assert [trial.number for trial in job.open().trials()] == list(range(18))
