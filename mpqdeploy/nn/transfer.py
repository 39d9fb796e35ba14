"""Carrying weights, BatchNorm statistics and activation scales between forms of one network."""

from __future__ import annotations

import torch
from torch import nn

from mpqdeploy.nn.quantizers import ActQuant

# Below these submodules live quantizers; what comes before is the name of the site or stream.
_HOLDERS = {"input_quant", "act_quant", "acts"}


def act_quantizers(net: nn.Module) -> dict[tuple[str, int], ActQuant]:
    """Every activation quantizer, by the name of its site or stream and its bit width."""
    found = {}
    for name, module in net.named_modules():
        if isinstance(module, ActQuant):
            found[_owner(name), module.bits] = module
    return found


@torch.no_grad()
def transfer(source: nn.Module, destination: nn.Module) -> tuple[tuple[str, int], ...]:
    """Copy every float parameter and buffer by name, and the scales of quantizers both have.

    Both networks are of one model, in any of its forms. Returns the (name, bits) of the
    destination's quantizers that found no scale: pass them to `calibrate`.
    """
    values = float_state(source)
    for name, target in float_state(destination).items():
        target.copy_(values[name])
    known = act_quantizers(source)
    missing = []
    for key, quantizer in act_quantizers(destination).items():
        if key in known:
            quantizer.log_scale.copy_(known[key].log_scale)
        else:
            missing.append(key)
    return tuple(missing)


def float_state(net: nn.Module) -> dict[str, torch.Tensor]:
    """The state dict without quantizers and logits: the same names and shapes in every form."""
    return {name: value for name, value in net.state_dict().items() if _is_float(name)}


def _is_float(name: str) -> bool:
    parts = set(name.split("."))
    return not parts & (_HOLDERS | {"weight_quant", "logits"})


def _owner(name: str) -> str:
    parts = name.split(".")
    end = next(i for i, part in enumerate(parts) if part in _HOLDERS)
    return ".".join(parts[:end])
