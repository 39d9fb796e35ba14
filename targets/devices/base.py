"""The seam of the devices: a place that loads a compiled library and times its functions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from mpqdeploy.core import Fingerprint


class Device(Protocol):
    """Where compiled code runs and is timed. Every device passes tests/targets/devices."""

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> Fingerprint:
        """The machine that this device's latencies hold for."""

    def load(self, library: Path) -> Any:
        """Bring a shared library to the device; returns its module, functions by `module[name]`.

        Raises `TargetError` where the library cannot be loaded there.
        """

    def tensor(self, array: NDArray[Any]) -> Any:
        """A copy of `array` in the device's memory, with `.numpy()` to read it back."""

    def time(
        self, module: Any, function: str, args: Sequence[Any], *, inner: int, samples: int
    ) -> tuple[float, ...]:
        """`samples` latencies in microseconds, each the mean of `inner` runs back to back."""


def evaluate(
    module: Any, function: str, device: Any, args: Sequence[Any], *, inner: int, samples: int
) -> tuple[float, ...]:
    """`Device.time` through TVM's own timer, whose loop runs in C++ beside the function."""
    timer = module.time_evaluator(function, device, number=inner, repeat=samples)
    return tuple(seconds * 1e6 for seconds in timer(*args).results)
