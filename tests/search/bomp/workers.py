"""Real processes that work on a study, for tests that kill them."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import Counter
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from mpqdeploy.search.bomp.parameters import Point
from mpqdeploy.search.bomp.study import Study, StudySettings
from mpqdeploy.search.bomp.worker import Ending
from tests.search.bomp.problems import BYTES, LAYERED, formula


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a worker is told. Every trial takes `seconds` and leaves two lines in `log`."""

    storage: str
    log: Path
    settings: StudySettings
    seconds: float = 0.01
    name: str = "test"

    def open(self) -> Study:
        return Study.open(self.storage, self.name, LAYERED, (BYTES,), self.settings)

    def lines(self) -> list[str]:
        return self.log.read_text(encoding="ascii").splitlines() if self.log.exists() else []

    def ended(self) -> Counter[int]:
        """How often each number was evaluated to its end."""
        return Counter(int(line.split()[1]) for line in self.lines() if line.startswith("end"))

    def started(self) -> list[tuple[int, int]]:
        """Number and process of every evaluation that began."""
        parts = [line.split() for line in self.lines() if line.startswith("start")]
        return [(int(number), int(process)) for _, number, process in parts]


def work(job: Job) -> None:
    """Run the study to its end."""

    def evaluate(point: Point, number: int) -> Ending:
        _write(job.log, f"start {number} {os.getpid()}")
        time.sleep(job.seconds)
        _write(job.log, f"end {number} {os.getpid()}")
        return lambda: formula(point)

    job.open().run(evaluate)


def _write(log: Path, line: str) -> None:
    # One write of a short line in append mode is whole, whoever else writes.
    with log.open("a", encoding="ascii") as stream:
        stream.write(line + "\n")


_CONTEXT = multiprocessing.get_context("forkserver")
# Importing torch takes longer than a whole study of formulas: it is done once, before the forks.
_CONTEXT.set_forkserver_preload(["tests.search.bomp.workers", "mpqdeploy.search.bomp.engines.bo"])


def start(job: Job) -> ForkServerProcess:
    process = _CONTEXT.Process(target=work, args=(job,))
    process.start()
    return process
