"""Which device trains, and in which arithmetic."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from mpqdeploy.core import ConfigError


def pick_device(name: str = "auto") -> torch.device:
    """`"auto"` is CUDA where there is one. Raises `ConfigError` for a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.partition(":")[0] not in ("cpu", "cuda") or (
        name.startswith("cuda") and not torch.cuda.is_available()
    ):
        raise ConfigError(f"there is no device {name!r} here.", hint="Use auto, cpu or cuda.")
    return torch.device(name)


def home(net: nn.Module) -> torch.device:
    """The device of a network's first parameter, CPU for one without parameters."""
    first = next(net.parameters(), None)
    return torch.device("cpu") if first is None else first.device


def autocast(device: torch.device) -> AbstractContextManager[Any]:
    """bfloat16 on a CUDA device that has it, float32 everywhere else.

    bfloat16 keeps float32's exponent, so no loss scaling is needed and none has to be resumed.
    """
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return nullcontext()
