"""What machine this is: the part of a latency's key that says where it holds.

Read from the operating system alone, without loading TVM: a profile that finds everything stored
must not pay for a compiler.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mpqdeploy.core import Fingerprint

CPUINFO = Path("/proc/cpuinfo")

# Flags that change which instructions the kernels become, as /proc/cpuinfo spells them.
RELEVANT = (
    "sse4_2",
    "popcnt",
    "avx",
    "avx2",
    "fma",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512cd",
    "avx512dq",
    "avx512vl",
    "avx512_vnni",
    "avx512ifma",
    "avx512vbmi",
    "avx512_vbmi2",
    "avx512_bitalg",
    "avx512_vpopcntdq",
    "gfni",
    "amx_tile",
    "amx_int8",
    "asimd",
    "asimddp",
    "i8mm",
    "sve",
)


@cache
def cpu_info() -> Mapping[str, str]:
    """The first processor's entries of /proc/cpuinfo; empty on systems without that file."""
    if not CPUINFO.exists():
        return {}
    first, _, _ = CPUINFO.read_text(encoding="utf-8", errors="replace").partition("\n\n")
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def cpu_flags() -> frozenset[str]:
    """CPU features as /proc/cpuinfo spells them (`flags` on x86, `Features` on Arm)."""
    info = cpu_info()
    return frozenset((info.get("flags") or info.get("Features") or "").split())


def cpu_model() -> str:
    return cpu_info().get("model name") or platform.processor() or platform.machine()


def host_fingerprint() -> Fingerprint:
    """This machine and its TVM.

    `cores` counts the machine's processors, also those that this process may not run on: a profile
    under `taskset` finds what one without it stored.
    """
    flags = cpu_flags()
    return Fingerprint(
        cpu=cpu_model(),
        features=tuple(flag for flag in RELEVANT if flag in flags),
        cores=os.cpu_count() or 1,
        tvm=_tvm_version(),
        system=f"{platform.system()} {platform.machine()}",
    )


def short_hash(fingerprint: Fingerprint) -> str:
    """Twelve hexadecimal digits that are equal on equal machines, for keys and file names."""
    text = json.dumps(asdict(fingerprint), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _tvm_version() -> str:
    try:
        return version("apache-tvm")
    except PackageNotFoundError:
        return "absent"
