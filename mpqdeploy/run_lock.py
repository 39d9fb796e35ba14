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
        stream.truncate(0)
        stream.write(f"{os.getpid()}\n")
        stream.flush()
        self._stream = stream

    def release(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
