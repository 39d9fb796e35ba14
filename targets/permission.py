"""Linux's permission to use tile registers, which programs must ask for (arch_prctl(2)).

A signal handler needs a larger stack where a program may use them: so they are lent on demand, to
the whole process and for as long as it runs. Without it the first tile instruction ends the process
with SIGILL.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache

ARCH_PRCTL = 158  # the system call, on x86-64
REQUEST = 0x1023  # ARCH_REQ_XCOMP_PERM
TILE_DATA = 18  # XFEATURE_XTILEDATA


@cache
def tiles_permitted() -> bool:
    """Ask for tile registers, for this process; whether the system lends them.

    Ask only where /proc/cpuinfo lists `amx_tile`: elsewhere the answer is no anyway.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.syscall(ARCH_PRCTL, REQUEST, ctypes.c_long(TILE_DATA)) == 0)
