"""The error function of the epilogue, against the standard library's, on every level."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.elementwise import Elementwise
from mpqdeploy.targets.layout import Layout
from mpqdeploy.targets.program import Apply, Load, Output, Step, Tensor
from tests.targets.kernels.harness import Case, run
from tests.targets.kernels.levels import require


def applied(x: NDArray[np.float32], isa: Isa) -> NDArray[np.float32]:
    """The kernel's values of a row of pixels with 16 channels."""
    values = np.resize(x, (1, 1, -(-x.size // 16), 16))
    tensors = {name: Tensor(name=name, shape=values.shape) for name in ("x", "y")}
    value = Apply(x=Load(tensor="x"), function="erf")
    step = Step(name="step", anchor=None, outputs=(Output(tensor="y", value=value),))
    layouts = {name: (Layout(kind="reals"),) for name in tensors}
    case = Case(step=step, tensors=tensors, layouts=layouts)
    (found,) = run(Elementwise(), case, isa, {"x": values}).values()
    return np.asarray(found, np.float32).reshape(-1)[: x.size]


@pytest.mark.parametrize("isa", Isa)
def test_within_eight_ulps(isa: Isa) -> None:
    """Of the function's own value: what it is near 0 is the difference between small numbers."""
    require(isa)
    ends = (1e-36, 1e-20, 3.8, 3.92, 3.93, 4.0, 10.0, 1e30)
    some = np.concatenate([np.linspace(0, 4.2, 4001), np.geomspace(1e-30, 5, 999), ends])
    x = np.concatenate([some, -some]).astype(np.float32)
    wanted = np.array([math.erf(value) for value in x.astype(np.float64)])
    found = applied(x, isa)
    assert (np.abs(found - wanted) <= 8 * np.spacing(np.abs(wanted).astype(np.float32))).all()
    assert (np.abs(found) <= 1).all()
