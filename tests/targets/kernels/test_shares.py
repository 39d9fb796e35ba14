"""Shares of kernels that the contract's cases do not reach: together they compute the step."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.kernels.base import Kernel
from mpqdeploy.targets.kernels.float_conv import FloatConvolution
from mpqdeploy.targets.kernels.float_pool import FloatPooling
from mpqdeploy.targets.kernels.lookup import LOOKUP
from mpqdeploy.targets.kernels.shares import SHARES, WHOLE, Share
from mpqdeploy.targets.kernels.winograd import WINOGRAD_KERNELS, WinogradKernel
from mpqdeploy.targets.threads import Threads
from tests.targets.kernels import convolutions, steps
from tests.targets.kernels.harness import Case, check
from tests.targets.kernels.levels import require

EVERY_SIZE = [
    (WinogradKernel(kernel.micro, least_channels=1, least_pixels=1), kernel.micro.isa)
    for kernel in WINOGRAD_KERNELS
]
LOOKUPS: list[tuple[Kernel, Isa]] = [(LOOKUP, Isa.VNNI), (LOOKUP, Isa.AVX2)]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize(("kernel", "isa"), [*EVERY_SIZE, *LOOKUPS])
def test_convolutions(kernel: Kernel, isa: Isa, count: int, stride: int) -> None:
    """Two images, with fewer rows than some chunks of tiles and no multiple of the shares."""
    require(isa)
    Threads(2).ready()
    case = convolutions.convolution(
        image=(2, 13, 11, 36),
        out=40,
        stride=(stride, stride),
        weights="b" if kernel is LOOKUP else "s4",
        acts="u4",
        seed=count,
    )
    if not kernel.matches(case.step, case.tensors, isa):
        pytest.skip("minimal filtering has stride 1")
    convolutions.check(case, kernel, isa, shares=count)


def check_shared(kernel: Kernel, case: Case, isa: Isa) -> None:
    require(isa)
    Threads(2).ready()
    schedule = kernel.schedules(case.step, case.tensors, isa)[0]
    check(kernel, case, isa, schedule={**schedule, SHARES: 2})


@pytest.mark.parametrize("isa", Isa)
@settings(max_examples=4, deadline=None)
@given(case=steps.convolutions(floats=True))
def test_float_convolutions(isa: Isa, case: Case) -> None:
    check_shared(FloatConvolution(), case, isa)


@pytest.mark.parametrize("isa", Isa)
@settings(max_examples=4, deadline=None)
@given(case=steps.pools(floats=True))
def test_float_pools(isa: Isa, case: Case) -> None:
    check_shared(FloatPooling(), case, isa)


@given(extent=st.integers(1, 200), count=st.integers(1, 16))
def test_evenness_is_what_sharing_gains(extent: int, count: int) -> None:
    largest = max((index + 1) * extent // count - index * extent // count for index in range(count))
    assert Share(0, count).evenness(extent) == pytest.approx(extent / (largest * count))
    assert WHOLE.evenness(extent) == 1.0
