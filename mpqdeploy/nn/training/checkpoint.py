"""A training run on disk: all that decides how it goes on, written whole or not at all."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn, optim

from mpqdeploy.core import CheckpointError
from mpqdeploy.core.files import replacing

_FLAGS = ("counter", "init_done")
"""Attributes in which Brevitas' scales count the batches they have looked at."""


def network_state(net: nn.Module) -> dict[str, Any]:
    """Every parameter and buffer by name, and the flags of Brevitas' learned scales.

    `state_dict` is not enough to resume: a Brevitas scale that is still collecting statistics
    leaves its value, its buffer and its counter out.
    """
    tensors = {name: tensor.detach().cpu().clone() for name, tensor in _tensors(net)}
    flags = {
        f"{name}.{flag}": getattr(module, flag)
        for name, module in net.named_modules()
        for flag in _FLAGS
        if isinstance(getattr(module, flag, None), int)
    }
    return {"tensors": tensors, "flags": flags}


def restore_network(net: nn.Module, state: Mapping[str, Any], source: Path) -> None:
    """Copy a `network_state` back, in place. Raises `CheckpointError` for another network's."""
    tensors = state["tensors"]
    own = dict(_tensors(net))
    for name in [*own, *tensors]:
        if name not in own or name not in tensors or own[name].shape != tensors[name].shape:
            raise CheckpointError(
                f"{source}: {name} does not fit this network.",
                hint="The checkpoint is of another model; remove it, or use another run folder.",
            )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])
    modules = dict(net.named_modules())
    for path, value in state["flags"].items():
        name, _, flag = path.rpartition(".")
        setattr(modules[name], flag, value)


def packed(net: nn.Module, optimizer: optim.Optimizer, extra: dict[str, Any]) -> bytes:
    """A training run as the bytes of its file; `extra` holds plain values and tensors."""
    stream = io.BytesIO()
    state = {"network": network_state(net), "optimizer": optimizer.state_dict(), "extra": extra}
    torch.save(state, stream)
    return stream.getvalue()


def save(path: Path, content: bytes) -> None:
    """Write what `packed` gave."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def unpack(
    content: bytes, net: nn.Module, optimizer: optim.Optimizer, source: Path
) -> dict[str, Any]:
    """Put a packed run back; its `extra`. Raises `CheckpointError` naming the `source`."""
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        network, saved, extra = state["network"], state["optimizer"], state["extra"]
    except (RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{source}: cannot be read as a checkpoint of a training run ({type(error).__name__}).",
            hint="Remove the file: the training then starts over.",
        ) from error
    restore_network(net, network, source)
    optimizer.load_state_dict(saved)
    return dict(extra)


def _tensors(net: nn.Module) -> list[tuple[str, Tensor]]:
    return [*net.named_parameters(), *net.named_buffers()]
