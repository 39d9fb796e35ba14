"""Compiling ahead: another process makes a network's library while this one trains the network.

Compiling is Python's and LLVM's work on one core for seconds, and needs no trained weights. The
process has the lowest priority, so that it lives on what training leaves free, and ends with the
one that made it, however that one ends.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from mpqdeploy.core import ModelError

if TYPE_CHECKING:
    from mpqdeploy.steps.drafting import Draft

_LOWEST_PRIORITY = 19
_PR_SET_PDEATHSIG = 1


class Ahead:
    """Use as a context manager: the process starts with the first draft and ends with the block."""

    def __enter__(self) -> Self:
        self._pool = self._start()
        self._last: Future[Path] | None = None
        return self

    def __exit__(self, *error: object) -> None:
        if self._last is not None and not self._last.done():
            # A compilation that nobody waits for any more is not waited for here either.
            _signal(self.processes(), signal.SIGTERM)
        self._pool.shutdown(cancel_futures=True)

    def processes(self) -> tuple[int, ...]:
        """Process ids; Python 3.14 has a public way to end a pool's processes, 3.11 has none."""
        return tuple(self._pool._processes or ())

    def begin(self, draft: Draft, library: Path) -> Future[Path]:
        """Start compiling `draft` to `library`; `finished` waits for it."""
        try:
            self._last = self._pool.submit(draft.compile, library)
        except BrokenProcessPool:  # the last one took its process with it
            self._pool = self._start()
            self._last = self._pool.submit(draft.compile, library)
        return self._last

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is compiled in the block: it would take the core, or the caches, of a timing."""
        stopped = self.processes()
        _signal(stopped, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(stopped, signal.SIGCONT)

    def _start(self) -> ProcessPoolExecutor:
        # A fork would inherit torch's and TVM's threads in whatever state they are.
        return ProcessPoolExecutor(
            1, mp_context=multiprocessing.get_context("spawn"), initializer=_settle
        )


def _signal(processes: Sequence[int], number: signal.Signals) -> None:
    for process in processes:
        with suppress(ProcessLookupError):  # it died, and `finished` says so
            os.kill(process, number)


def finished(work: Future[Path]) -> Path:
    """The library. Raises what compiling raised, and `ModelError` where its process died."""
    try:
        return work.result()
    except BrokenProcessPool as error:
        raise ModelError(
            "the process that compiled this network died.",
            hint="Out of memory, most likely: see the kernel's log.",
        ) from error


def _settle() -> None:
    """Runs in the process: out of training's way, deaf to Ctrl-C, and not to outlive its maker."""
    # Brevitas says so at every import, and nothing here uses it.
    warnings.filterwarnings("ignore", message="fast_hadamard_transform")
    import torch

    os.nice(_LOWEST_PRIORITY)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _abandon)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if sys.platform == "linux":
        # The thread cannot end a process that is paused while its maker is killed.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _abandon(signum: int, frame: object) -> None:
    """End what is compiled, and not the process: that ends in good order with its pool."""
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
