"""One process at a time in a run folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from mpqdeploy.core import UserError


class LockedError(UserError):
    """Another process works in the run folder."""


class RunLock:
    """An advisory lock that the kernel drops with its process, however that one ends.

    So nothing is stale after `kill -9`: the file stays, the lock on it does not. The file names
    the holder, for the message that the next one gets.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream: IO[str] | None = None

    def acquire(self) -> None:
        """Raises `LockedError` where another process holds it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        stream = self._path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            stream.seek(0)
            holder = stream.read().strip() or "unknown"
            stream.close()
            raise LockedError(
                f"{self._path.parent}: another run (process {holder}) works in this folder.",
                hint="Wait for it, stop it, or choose another run_dir.",
            ) from error
        if not self._is_current(stream):  # removed between opening and locking it
            stream.close()
            self.acquire()
            return
        stream.truncate(0)
        stream.write(f"{os.getpid()}\n")
        stream.flush()
        self._stream = stream

    def remove(self) -> None:
        """Take the file away while holding the lock; `release` afterwards."""
        self._path.unlink(missing_ok=True)

    def release(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _is_current(self, stream: IO[str]) -> bool:
        try:
            return os.path.samestat(os.fstat(stream.fileno()), self._path.stat())
        except FileNotFoundError:
            return False
