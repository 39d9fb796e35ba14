"""`Arithmetic`: in which precision the forward pass of training computes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, optim

Amp = Literal["auto", "bfloat16", "float16", "off"]


def pick_dtype(amp: Amp, place: torch.device) -> torch.dtype | None:
    """The dtype to compute in, None for float32 throughout.

    `auto`: bfloat16 on a CUDA device that has it, float16 on one that has not, nothing on a CPU,
    where neither is faster in general.
    """
    if amp == "auto":
        if place.type != "cuda":
            return None
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    return {"bfloat16": torch.bfloat16, "float16": torch.float16, "off": None}[amp]


class Arithmetic:
    """Autocast for the forward pass, and loss scaling for float16 (bfloat16 has float32's range).

    Weights, quantizer scales, logits and the optimizer's state stay float32, and so do losses:
    autocast concerns products alone, and quantizers widen what they read.
    """

    def __init__(self, amp: Amp, place: torch.device) -> None:
        self._kind = place.type
        self.dtype = pick_dtype(amp, place)
        self._scaler = torch.amp.GradScaler(self._kind, enabled=self.dtype is torch.float16)

    def autocast(self) -> AbstractContextManager[Any]:
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(self._kind, dtype=self.dtype)

    def backward(self, loss: Tensor) -> None:
        """Gradients of `loss`, scaled until `unscale`."""
        torch.autograd.backward(self._scaler.scale(loss))

    def unscale(self, optimizer: optim.Optimizer) -> None:
        """Make the gradients of the optimizer's parameters those of the loss itself."""
        self._scaler.unscale_(optimizer)

    def step(self, optimizer: optim.Optimizer) -> None:
        """The optimizer's step, left out where a scaled gradient overflowed."""
        self._scaler.step(optimizer)
        self._scaler.update()

    def state(self) -> dict[str, Any]:
        """What `restore` needs; empty but for float16."""
        return self._scaler.state_dict()

    def restore(self, state: dict[str, Any]) -> None:
        if state and self._scaler.is_enabled():
            self._scaler.load_state_dict(state)
