"""Brevitas quantizers: what a `Precision` means for weights and for activations.

Each quantizer is a Brevitas injector around a small `tensor_quant` module, which the searchable
layers also call directly. `brevitas.export.export_qonnx` turns them into `Quant` and `BipolarQuant`
nodes.

Weights have one scale per output channel: the compiler folds it, with BatchNorm, into a per-channel
factor that exists anyway, so a scale per tensor would save nothing and cost accuracy, most of all
in depthwise layers [o]. Activations have one scale per tensor: one per channel could not be pulled
out of the integer sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from brevitas import config as brevitas_config
from brevitas.export.onnx.qonnx.function import BrevitasQuantOp
from brevitas.export.onnx.qonnx.handler import BrevitasActQuantProxyHandler
from brevitas.inject import ExtendedInjector
from brevitas.proxy import ActQuantProxyFromInjector, WeightQuantProxyFromInjector
from torch import Tensor, nn

from mpqdeploy.nn.functional import (
    SMALLEST_SCALE,
    Codes,
    binarize_weight,
    quantize_act,
    quantize_weight,
)

# Loading a state dict would otherwise replace each scale parameter by a new one, behind the back of
# an optimizer that already holds it.
brevitas_config.REINIT_ON_STATE_DICT_LOAD = False

STREAM_BITS = 8
INITIAL_RANGE = 4.0  # of an activation quantizer that nobody has calibrated yet

# Clip threshold over mean|W|: between the least squared errors of Gaussian weights (1.5, 2.4, 3.1)
# and of a trained ResNet-20's channels (1.5, 2.75, 3.75). From 5 bits on, clipping costs more than
# it gains, and the threshold is max|W|. Scale-Clip's k = 2 [r] bounds the *weights* in training
# (see reshape.py); as a fixed quantizer threshold it would cut 11% of a Gaussian's weights, which a
# pretrained network does not survive. Where Scale-Clip holds per channel, max|W| = 2 mean|W| and
# from 3 bits on both rules are the same [o].
CLIP_FACTORS = {2: 1.5, 3: 2.6, 4: 3.5}

QuantTuple = tuple[Tensor, Tensor, Tensor, Tensor]


class WeightStats:
    """mean|W| and max|W| per output channel, shape `[O, 1, ...]`; no gradient flows into them."""

    def __init__(self, weight: Tensor) -> None:
        magnitude = weight.detach().abs()
        dims = tuple(range(1, weight.dim()))
        self.mean = magnitude.mean(dims, keepdim=True)
        self.max = magnitude.amax(dims, keepdim=True)


def weight_scale(stats: WeightStats, bits: int) -> Tensor:
    """Scale per output channel: XNOR-Net's mean|W| at 1 bit [F], else threshold / highest code."""
    if bits == 1:
        return stats.mean.clamp_min(SMALLEST_SCALE)
    threshold = stats.max
    if bits in CLIP_FACTORS:
        threshold = torch.minimum(CLIP_FACTORS[bits] * stats.mean, threshold)
    return (threshold / _highest(bits)).clamp_min(SMALLEST_SCALE)


def quantized_weight(weight: Tensor, bits: int, stats: WeightStats) -> Tensor:
    """`weight` on the grid of `bits`, same shape, differentiable straight through."""
    scale = weight_scale(stats, bits)
    if bits == 1:
        return binarize_weight(weight, scale)
    return quantize_weight(weight, scale, high=_highest(bits))


def _highest(bits: int) -> int:
    return (1 << (bits - 1)) - 1  # narrow range: -high..high


class _TensorQuant(nn.Module):
    """What Brevitas wants to know of every quantizer besides its scale."""

    zero_point: Tensor
    bit_width: Tensor

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits
        self.register_buffer("zero_point", torch.tensor(0.0), persistent=False)
        self.register_buffer("bit_width", torch.tensor(float(bits)), persistent=False)


class WeightQuant(_TensorQuant):
    """`tensor_quant` of a weight: scale from the weight's own statistics, at every call."""

    def forward(self, weight: Tensor) -> QuantTuple:
        stats = WeightStats(weight)
        value = quantized_weight(weight, self.bits, stats)
        return value, weight_scale(stats, self.bits), self.zero_point, self.bit_width


class ActQuant(_TensorQuant):
    """`tensor_quant` of an activation, with one scale that is learned as its logarithm.

    An optimizer that steps on the scale itself has to be slowed down by LSQ's factor, and one rough
    first step (8 bits: scales of 0.01) still takes it below zero, where every gradient ends: a
    network with 1-bit weights died so. A step on the logarithm is a relative one [o].

    Unsigned: codes 0..2^bits - 1, so {0, 1} at one bit. Signed: two's complement, and {-1, +1} at
    one bit. While `observer` is set, it is shown the input, which passes on unquantized.
    """

    def __init__(self, bits: int, signed: bool) -> None:
        super().__init__(bits)
        self.signed = signed
        self.codes = _act_codes(bits, signed)
        self.log_scale = nn.Parameter(torch.tensor(INITIAL_RANGE / self.codes.high).log())
        self.observer: Callable[[Tensor], None] | None = None

    def quantize(self, x: Tensor) -> Tensor:
        """`x`, any shape, on this quantizer's grid."""
        if self.observer is not None:
            self.observer(x.detach())
            return x
        return quantize_act(x, self.scale, self.codes)

    @property
    def scale(self) -> Tensor:
        """The scale, shape `[]`, positive."""
        return self.log_scale.exp()

    @torch.no_grad()
    def set_scale_(self, scale: float) -> None:
        self.log_scale.fill_(math.log(scale))

    def forward(self, x: Tensor) -> QuantTuple:
        return self.quantize(x), self.scale, self.zero_point, self.bit_width


def _act_codes(bits: int, signed: bool) -> Codes:
    if not signed:
        return Codes(low=0, high=(1 << bits) - 1)
    if bits == 1:
        return Codes(low=-1, high=1, bipolar=True)
    return Codes(low=-(1 << (bits - 1)), high=(1 << (bits - 1)) - 1)


class _CountingHandler(BrevitasActQuantProxyHandler):  # type: ignore[misc]
    """Exports one unsigned bit as `Quant`: Brevitas takes every single bit for a bipolar one."""

    def prepare_for_export(self, module: nn.Module) -> None:
        super().prepare_for_export(module)
        self.quant_op = BrevitasQuantOp


class _CountingProxy(ActQuantProxyFromInjector):  # type: ignore[misc]
    """Activation proxy of {0, 1} codes, which brings its own export handler."""

    requires_export_handler = False  # the manager has none to give

    @property
    def export_mode(self) -> bool:
        return bool(self._export_mode)

    @export_mode.setter
    def export_mode(self, value: bool) -> None:
        if value:
            self.export_handler = _CountingHandler()
        ActQuantProxyFromInjector.export_mode.fset(self, value)


class _WeightInjector(ExtendedInjector):  # type: ignore[misc]
    proxy_class = WeightQuantProxyFromInjector
    tensor_quant = WeightQuant
    signed = True
    narrow_range = True
    float_to_int_impl_type = "ROUND"


class _ActInjector(ExtendedInjector):  # type: ignore[misc]
    proxy_class = ActQuantProxyFromInjector
    tensor_quant = ActQuant
    narrow_range = False
    float_to_int_impl_type = "ROUND"


def weight_quantizer(bits: int) -> Any:
    """Brevitas weight injector: signed, narrow range, per channel; bipolar at 1 bit."""
    return _WeightInjector.let(bits=bits)


def act_quantizer(bits: int, *, signed: bool) -> Any:
    """Brevitas activation injector, per tensor, with a learned scale."""
    injector = _ActInjector.let(bits=bits, signed=signed)
    return injector if bits > 1 or signed else injector.let(proxy_class=_CountingProxy)
