"""Straight-through quantization: the forward rounding and the backward rule of every quantizer.

Each rule is one autograd function that saves as little as possible: a chain of elementwise ops
costs a pass over memory, and a saved tensor, per op.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

SMALLEST_SCALE = 1e-8  # keeps x / scale finite where a channel or an activation is all zero
CHUNK = 1 << 16  # elements that a mixture works on at a time: a few such buffers fit a core's cache


@dataclass(frozen=True, kw_only=True)
class Codes:
    """The integers low..high, or only -1 and +1 where `bipolar` (low = -1 and high = 1)."""

    low: int
    high: int
    bipolar: bool = False

    def quantize(self, x: Tensor, scale: Tensor) -> Tensor:
        """`scale * clip(round(x / scale), low, high)`, or `scale * sign(x)` where bipolar."""
        if self.bipolar:
            return torch.where(x >= 0, scale, -scale)
        return (x / scale).round_().clamp_(self.low, self.high).mul_(scale)

    def passed(self, grad: Tensor, x: Tensor, scale: float) -> Tensor:
        """`grad` where low < x / scale < high, else 0, in one pass over memory."""
        low, high = self.low * scale, self.high * scale
        result: Tensor = torch.ops.aten.hardtanh_backward(grad, x, low, high)
        return result


class _QuantizeAct(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, codes: Codes) -> Tensor:
        y = codes.quantize(x, scale)
        ctx.save_for_backward(x, y, scale)
        ctx.codes = codes
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, y, scale = ctx.saved_tensors
        grad = _laid_out_as(x, grads[0])
        grad_x = ctx.codes.passed(grad, x, float(scale))
        grad_scale = None
        if ctx.needs_input_grad[1]:
            # d y / d scale is code - x / scale inside the range and code outside it.
            total = torch.dot(_flat(grad), _flat(y)) - torch.dot(_flat(grad_x), _flat(x))
            grad_scale = total / scale
        return grad_x, grad_scale, None


class _MixActs(Function):
    """sum_n chances[n] * (x on grid n), chunk by chunk; only `x` is saved."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scales: Tensor, chances: Tensor, grids: Sequence[Codes]
    ) -> Tensor:
        ctx.save_for_backward(x, scales, chances)
        ctx.grids = grids
        y = torch.zeros_like(x)
        weights = chances.tolist()
        for part_x, part_y in zip(_chunks(x), _chunks(y), strict=True):
            for codes, scale, weight in zip(grids, scales, weights, strict=True):
                part_y.add_(codes.quantize(part_x, scale), alpha=weight)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, scales, chances = ctx.saved_tensors
        grad = _laid_out_as(x, grads[0])
        grad_x = torch.zeros_like(x)
        weights, steps = chances.tolist(), scales.tolist()
        along_code = torch.zeros_like(scales)  # <grad, x on grid n>
        along_x = torch.zeros_like(scales)  # <grad, x> inside the range of grid n
        parts = zip(_chunks(x), _chunks(grad), _chunks(grad_x), strict=True)
        for part_x, part, part_out in parts:
            for n, codes in enumerate(ctx.grids):
                passed = codes.passed(part, part_x, steps[n])
                part_out.add_(passed, alpha=weights[n])
                along_code[n] += torch.dot(part, codes.quantize(part_x, scales[n]))
                along_x[n] += torch.dot(passed, part_x)
        return grad_x, chances * (along_code - along_x) / scales, along_code, None


class _QuantizeWeight(Function):
    """`scale * clip(round(w / scale), -high, high)`; the gradient passes unchanged."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, scale: Tensor, high: int) -> Tensor:
        return (weight / scale).round_().clamp_(-high, high).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads[0], None, None


class _BinarizeWeight(Function):
    """`scale * sign(w)`; the gradient passes where |w| <= 1 (clipped straight-through)."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return torch.where(weight >= 0, scale, -scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        return grads[0] * (weight.abs() <= 1), None


def quantize_act(x: Tensor, scale: Tensor, codes: Codes) -> Tensor:
    """Quantize activations of any shape with one learned `scale` (0-dim).

    The gradient of the scale is LSQ's, without its factor for the size of a layer [F]: that one
    belongs to an optimizer that moves the scale itself (see `ActQuant`).
    """
    result: Tensor = _QuantizeAct.apply(_single(x), scale, codes)  # type: ignore[no-untyped-call]
    return result


def mix_acts(x: Tensor, scales: Tensor, chances: Tensor, grids: Sequence[Codes]) -> Tensor:
    """sum_n chances[n] * quantize_act(x, scales[n], grids[n]); `scales`, `chances`: shape `[N]`."""
    result: Tensor = _MixActs.apply(_single(x), scales, chances, grids)  # type: ignore[no-untyped-call]
    return result


def quantize_weight(weight: Tensor, scale: Tensor, *, high: int) -> Tensor:
    """Quantize `weight` to codes -high..high; `scale` broadcasts over it and takes no gradient."""
    result: Tensor = _QuantizeWeight.apply(weight, scale, high)  # type: ignore[no-untyped-call]
    return result


def binarize_weight(weight: Tensor, scale: Tensor) -> Tensor:
    """Weights to `scale` times -1 or +1, 0 counting as +1; `scale` takes no gradient."""
    result: Tensor = _BinarizeWeight.apply(weight, scale)  # type: ignore[no-untyped-call]
    return result


def _single(x: Tensor) -> Tensor:
    """Half precision becomes float32: 8-bit codes times a scale do not fit bfloat16.

    The result is dense, so that the rules above may walk through memory.
    """
    x = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    return x if _is_channels_last(x) else x.contiguous()


def _is_channels_last(x: Tensor) -> bool:
    return x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)


def _laid_out_as(x: Tensor, other: Tensor) -> Tensor:
    last = _is_channels_last(x)
    return other.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def _flat(x: Tensor) -> Tensor:
    """All elements in the order of memory, without a copy."""
    if x.is_contiguous():
        return x.view(-1)
    return x.permute(0, 2, 3, 1).view(-1)


def _chunks(x: Tensor) -> tuple[Tensor, ...]:
    return torch.split(_flat(x), CHUNK)
