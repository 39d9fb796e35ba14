"""Loading float weights from a file that somebody else may have made."""

from __future__ import annotations

import pickle
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mpqdeploy.core import CheckpointError, ConfigError
from mpqdeploy.nn.transfer import float_state

_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PREFIX = "module."  # what DataParallel puts before every name
_CLASSIFIER = "fc."  # what a ResNet has behind its backbone
_COUNTER = "num_batches_tracked"  # absent from old checkpoints, and of no effect here

# What numpy's and torch's readers are seen to raise on bytes that are no checkpoint: an unpickler
# that follows random opcodes fails in many ways.
_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)


def load_checkpoint(net: nn.Module, path: Path) -> None:
    """Copy the weights and BatchNorm statistics in `path` into `net`, whatever its form.

    `.npz` (plain arrays) or a torch file (`.th`, `.pt`, `.pth`) with a state dict, also one under
    "state_dict", also with names that begin with "module.". Nothing in the file is executed.
    Raises `CheckpointError` naming the first name or shape that does not fit; `net` is then as it
    was.
    """
    _copy(net, _read(path), path)


def load_backbone(net: nn.Module, path: Path) -> None:
    """Copy a classifier's weights in `path` into the backbone of the detector `net`.

    As `load_checkpoint`, but the classifier's last layer is left out. Raises `ConfigError` for a
    network without a backbone.
    """
    backbone = getattr(net, "backbone", None)
    if not isinstance(backbone, nn.Module):
        raise ConfigError(
            "model.backbone: this model has no backbone.", hint="Use model.checkpoint."
        )
    values = _read(path)
    _copy(backbone, {n: v for n, v in values.items() if not n.startswith(_CLASSIFIER)}, path)


def _copy(net: nn.Module, values: Mapping[str, Tensor], path: Path) -> None:
    targets = float_state(net)
    for name, target in targets.items():
        if name not in values:
            if name.endswith(_COUNTER):
                continue
            raise CheckpointError(f"{path}: there is no {name!r}, which the model has.", hint=_HINT)
        if values[name].shape != target.shape:
            raise CheckpointError(
                f"{path}: {name!r} has shape {list(values[name].shape)}, the model's has "
                f"{list(target.shape)}.",
                hint=_HINT,
            )
    for name in values:
        if name not in targets:
            raise CheckpointError(
                f"{path}: {name!r} is in the file and not in the model.", hint=_HINT
            )
    with torch.no_grad():
        for name, value in values.items():
            targets[name].copy_(value)


_HINT = "Give a checkpoint of this model with this number of classes."


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file.", hint="Check the path.")
    try:
        content = _read_npz(path) if path.suffix == ".npz" else _read_torch(path)
    except _UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path}: cannot be read as a checkpoint ({reason}).",
            hint="Give an .npz of plain arrays or a torch file with a state dict of tensors.",
        ) from None
    return {name.removeprefix(_PREFIX): value for name, value in content.items()}


def _read_npz(path: Path) -> dict[str, Tensor]:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def _read_torch(path: Path) -> dict[str, Tensor]:
    content: Any = torch.load(path, map_location="cpu", weights_only=True)
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise ValueError("it holds no state dict")
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ValueError("it holds no tensors")
    return tensors
