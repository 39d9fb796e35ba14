"""A study's journal file that survives its writers being killed."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import BinaryIO

from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

_BLOCK = 1 << 16


class FileLock(JournalFileOpenLock):
    """A lock that the kernel gives back when its holder dies.

    Optuna's own are files, which a killed process leaves behind: the next one then waits out
    their grace period. Raises `TimeoutError` where another process holds it for `patience` seconds.
    """

    def __init__(self, path: Path, patience: float) -> None:
        super().__init__(str(path))
        self._path = path
        self._patience = patience
        self._descriptor = -1

    def acquire(self) -> bool:
        descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o644)
        until = time.monotonic() + self._patience
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    os.close(descriptor)
                    raise TimeoutError(f"{self._path} is locked by another process") from None
                time.sleep(0.01)
            else:
                self._descriptor = descriptor
                return True

    def release(self) -> None:
        os.close(self._descriptor)


class MendingLock(FileLock):
    """Cuts off what a killed writer left of a line whenever the lock is taken.

    Optuna would append behind such a rest, and no process could read the file from then on. A
    line counts once its newline is there; what lacks one was never read by anybody.
    """

    def __init__(self, journal: Path, patience: float) -> None:
        super().__init__(journal.with_name(journal.name + ".lock"), patience)
        self._journal = journal

    def acquire(self) -> bool:
        super().acquire()
        with self._journal.open("r+b") as stream:
            size = stream.seek(0, os.SEEK_END)
            end = _whole_lines(stream, size)
            if end < size:
                stream.truncate(end)
        return True


def open_journal(path: Path, patience: float) -> JournalFileBackend:
    """The journal at `path`, made with its folders where there is none. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return JournalFileBackend(str(path), lock_obj=MendingLock(path, patience))


def _whole_lines(stream: BinaryIO, size: int) -> int:
    """The position behind the last newline."""
    end = size
    while end > 0:
        start = max(0, end - _BLOCK)
        stream.seek(start)
        found = stream.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
