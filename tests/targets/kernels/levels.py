"""What kernels are compiled for in tests: their level, and what they need of a CPU beyond it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels import PREFERRED, SPECIAL
from mpqdeploy.targets.kernels.base import Kernel
from mpqdeploy.targets.target import NAMED, Target

LEVELS = {target.isa: target for target in NAMED.values() if not target.features}
NEEDED = {
    kernel.name: features
    for features, kernels in (*PREFERRED.items(), *SPECIAL.items())
    for kernel in kernels
}


def target_for(isa: Isa, kernel: Kernel | None = None) -> Target:
    """The level, with the features of a kernel that is not on all CPUs of the VNNI level."""
    beyond = kernel is not None and isa is Isa.VNNI
    features = getattr(kernel, "features", NEEDED.get(kernel.name, ())) if beyond else ()
    return replace(LEVELS[isa], features=features)


def where_it_runs(kernel: Kernel, isa: Isa) -> Any:
    """The two as parameters of a test, which is skipped where this machine lacks what they need."""
    missing = target_for(isa, kernel).missing()
    reason = f"this machine lacks {', '.join(missing)}"
    marks = pytest.mark.skipif(bool(missing), reason=reason)
    return pytest.param(kernel, isa, id=kernel.name, marks=marks)


def require(isa: Isa, kernel: Kernel | None = None) -> None:
    """Skips the test where this machine does not execute such code."""
    missing = target_for(isa, kernel).missing()
    if missing:
        pytest.skip(f"this machine lacks {missing[0]}")
