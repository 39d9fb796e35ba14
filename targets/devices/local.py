"""`LocalDevice`: the machine that this process runs on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mpqdeploy.core import Fingerprint, TargetError
from mpqdeploy.targets.devices.base import evaluate
from mpqdeploy.targets.fingerprint import host_fingerprint
from mpqdeploy.targets.target import Target
from mpqdeploy.targets.threads import Threads

_PROCESSOR_FIELD = 36  # of /proc/thread-self/stat, counted behind the command's closing bracket


class LocalDevice:
    """Loads libraries into this process. Raises `TargetError` where `target` cannot run here."""

    name = "local"

    def __init__(self, target: Target) -> None:
        target.require_here()
        self._threads = Threads(target.threads)
        self._fingerprint = host_fingerprint()

    @property
    def fingerprint(self) -> Fingerprint:
        return self._fingerprint

    def load(self, library: Path) -> Any:
        from tvm.runtime import load_module

        try:
            return load_module(str(library))
        except (RuntimeError, ValueError, OSError) as error:
            raise TargetError(
                f"{library} is no library that this machine can load.",
                hint="Compile it again for --target host.",
            ) from error

    def tensor(self, array: NDArray[Any]) -> Any:
        from tvm.runtime import tensor

        return tensor(array)

    def time(
        self, module: Any, function: str, args: Sequence[Any], *, inner: int, samples: int
    ) -> tuple[float, ...]:
        import tvm

        with pinned(self._threads.count):
            self._threads.ready()
            return evaluate(module, function, tvm.cpu(), args, inner=inner, samples=samples)


@contextmanager
def pinned(threads: int) -> Iterator[None]:
    """Keep this thread, and those it starts, on `threads` processors, beginning with its own.

    A latency at one thread then is one processor's, whatever the callee does, and no migration
    empties its caches. Does nothing where the system has no affinity to set.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = sorted(os.sched_getaffinity(0))
    here = _current_processor()
    start = allowed.index(here) if here in allowed else 0
    os.sched_setaffinity(0, (allowed[start:] + allowed[:start])[:threads])
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _current_processor() -> int:
    stat = Path("/proc/thread-self/stat").read_text(encoding="ascii", errors="replace")
    return int(stat.rpartition(")")[2].split()[_PROCESSOR_FIELD])
