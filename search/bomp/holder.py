"""Who is at work on a trial, and whether they still live."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A worker: a study object in a process on a machine.

    `place` names the machine since its last start, and the name space of its process ids: two
    containers on one machine do not see each other's processes. `started` tells a process from a
    later one with its id: ticks since the machine's start, which no change of its clock moves.
    """

    worker: str
    host: str
    place: str
    process: int
    started: float

    @classmethod
    def here(cls) -> Holder:
        process = os.getpid()
        return cls(
            worker=uuid.uuid4().hex,
            host=socket.gethostname(),
            place=_place(),
            process=process,
            started=_started(process),
        )

    def to_json(self) -> dict[str, str | int | float]:
        return asdict(self)

    def lives(self) -> bool | None:
        """Whether the process runs; None where it cannot be known from here."""
        if self.place != _place():
            return None
        try:
            process = psutil.Process(self.process)
            same = _started(self.process) == self.started
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


def _started(process: int) -> float:
    """Raises `psutil.NoSuchProcess`."""
    try:
        line = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return psutil.Process(process).create_time()
    # The name stands in parentheses and may hold spaces; the time is the 20th field behind it.
    return float(line.rpartition(")")[2].split()[19])


def _place() -> str:
    """Without Linux's /proc, the machine alone: there are no name spaces of process ids there."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        names = Path("/proc/self/ns/pid").readlink()
    except OSError:
        return f"{socket.gethostname()}:{uuid.getnode()}"
    return f"{boot}:{names}"


class Watch:
    """Beats of workers whose processes cannot be seen.

    A beat is a number that its worker counts up. Only its change is looked at, against this
    process's own clock: clocks of two machines need not agree.
    """

    def __init__(self, lease: float) -> None:
        self._lease = lease
        self._seen: dict[int, tuple[int, float]] = {}

    def silent(self, trial: int, beat: int) -> bool:
        """Whether the beat of `trial` has not changed for the lease, as far as seen from here."""
        now = time.monotonic()
        last, since = self._seen.get(trial, (beat - 1, now))
        if beat != last:
            self._seen[trial] = (beat, now)
            return False
        return now - since > self._lease


def holder_from_json(data: Mapping[str, str | int | float]) -> Holder:
    return Holder(
        worker=str(data["worker"]),
        host=str(data["host"]),
        place=str(data["place"]),
        process=int(data["process"]),
        started=float(data["started"]),
    )
