"""`Threads`: the workers that code compiled for several threads runs on.

TVM gives every thread that calls compiled code a pool of its own, whose size is fixed when it is
first used; by default that is half of the processors, or OMP_NUM_THREADS. Results do not depend on
it: a pool of one thread runs all shares in turn.
"""

from __future__ import annotations

import os
import threading
import warnings

_SHARE_ALL_CORES = -3  # TVM's affinity mode in which workers are bound to no core of their own
_pools = threading.local()


class Threads:
    """Asks for `count` threads, the calling one included, in whichever thread calls `ready`."""

    def __init__(self, count: int) -> None:
        self.count = count

    def ready(self) -> None:
        """Before compiled code is called: give this thread its workers, unless it has them.

        Warns where it has a smaller pool already, or is the fork of one that had: workers do not
        survive a fork, and waiting for them would never end.
        """
        if self.count == 1:
            return
        owner = getattr(_pools, "owner", None)
        if owner == (os.getpid(), self.count):
            return
        if owner is not None and owner[0] != os.getpid():
            _configure(1)
            reason = "a fork has no workers; run it in a process or a thread that is started anew"
        elif _configure(self.count) < self.count:
            reason = "TVM's pool of this thread was made with fewer; run it in another thread"
        else:
            reason = ""
        _pools.owner = (os.getpid(), self.count)
        if reason:
            warnings.warn(
                f"a library for {self.count} threads runs on fewer: {reason}",
                RuntimeWarning,
                stacklevel=3,
            )


def _configure(count: int) -> int:
    """Have TVM use `count` threads when this one launches; returns how many there are."""
    import tvm

    # TVM would bind workers to the first cores, and every caller's to the same ones.
    os.environ.setdefault("TVM_BIND_THREADS", "0")
    allowed = processors()
    given = [str(allowed[i % len(allowed)]) for i in range(count)]
    tvm.get_global_func("runtime.config_threadpool")(_SHARE_ALL_CORES, count, given)
    return int(tvm.get_global_func("runtime.NumThreads")())


def processors() -> list[int]:
    """Numbers of the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
