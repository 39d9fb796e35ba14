"""Which device trains."""

from __future__ import annotations

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
