"""Straight-through quantization: the forward rounding and the backward rule of every quantizer.

Each rule is one autograd function that saves as little as possible: a chain of elementwise ops
costs a pass over memory, and a saved tensor, per op.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

SMALLEST_SCALE = 1e-8  # keeps x / scale finite where a channel or an activation is all zero


class _QuantizeAct(Function):
    """`scale * clip(round(x / scale), low, high)`, or `scale * sign(x)` where `bipolar`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, low: int, high: int, bipolar: bool, gain: float
    ) -> Tensor:
        if bipolar:
            y = torch.where(x >= 0, scale, -scale)
        else:
            y = (x / scale).round_().clamp_(low, high).mul_(scale)
        ctx.save_for_backward(x, y, scale)
        ctx.low, ctx.high, ctx.gain = low, high, gain
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        x, y, scale = ctx.saved_tensors
        step = float(scale)
        # Gradient passes where low < x / scale < high, in one pass over memory.
        grad_x = torch.ops.aten.hardtanh_backward(grad, x, ctx.low * step, ctx.high * step)
        grad_scale = None
        if ctx.needs_input_grad[1]:
            # d y / d scale is code - x / scale inside the range and code outside it.
            total = torch.dot(grad.reshape(-1), y.reshape(-1))
            total = total - torch.dot(grad_x.reshape(-1), x.reshape(-1))
            grad_scale = (total * (ctx.gain / step)).reshape(scale.shape)
        return grad_x, grad_scale, None, None, None, None


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


def quantize_act(x: Tensor, scale: Tensor, *, low: int, high: int, bipolar: bool = False) -> Tensor:
    """Quantize activations of any shape with one learned `scale` (0-dim).

    The scale's gradient is LSQ's, times 1/sqrt(features * high) with the features of one sample, so
    that a scale moves about as fast, relative to its size, as a weight does [F]. Half-precision
    inputs are computed in float32: 8-bit codes times a scale do not fit bfloat16.
    """
    if x.dtype in (torch.bfloat16, torch.float16):
        x = x.float()
    features = x[0].numel() if x.dim() > 1 else x.numel()
    gain = (features * high) ** -0.5
    result: Tensor = _QuantizeAct.apply(x, scale, low, high, bipolar, gain)  # type: ignore[no-untyped-call]
    return result


def quantize_weight(weight: Tensor, scale: Tensor, *, high: int) -> Tensor:
    """Quantize `weight` to codes -high..high; `scale` broadcasts over it and takes no gradient."""
    result: Tensor = _QuantizeWeight.apply(weight, scale, high)  # type: ignore[no-untyped-call]
    return result


def binarize_weight(weight: Tensor, scale: Tensor) -> Tensor:
    """Weights to `scale` times -1 or +1, 0 counting as +1; `scale` takes no gradient."""
    result: Tensor = _BinarizeWeight.apply(weight, scale)  # type: ignore[no-untyped-call]
    return result
