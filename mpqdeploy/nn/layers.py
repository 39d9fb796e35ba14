"""Sites: the quantizable layers of a network, in float and at a fixed precision.

A model is defined once, in float, from `SiteConv2d`, `SiteLinear` and `Stream`. Its other forms
come from replacing those modules in place, by name, so every form has the same names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from brevitas.nn import QuantConv2d, QuantIdentity, QuantLinear
from torch import Tensor, nn

from mpqdeploy.core import Precision
from mpqdeploy.nn.quantizers import STREAM_BITS, act_quantizer, weight_quantizer


class SiteConv2d(nn.Conv2d):
    """A convolution whose precision may be chosen; `act_signed`: its input can be negative."""

    act_signed = False


class SiteLinear(nn.Linear):
    """A fully connected layer whose precision may be chosen."""

    act_signed = False


Site = SiteConv2d | SiteLinear


class Stream(nn.Module):
    """Where a residual stream is quantized, once, to 8 bits; does nothing in float.

    Every reader of the stream (the next block's site at its own width, the shortcut) then starts
    from the same 8-bit codes, so the compiled network keeps one byte per element and no floats.
    """

    def __init__(self, *, signed: bool = False) -> None:
        super().__init__()
        self.signed = signed

    def forward(self, x: Tensor) -> Tensor:
        return x


def conv_site(
    in_channels: int,
    out_channels: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    act_signed: bool = False,
) -> SiteConv2d:
    """A bias-free convolution ("same" padding at stride 1) for a BatchNorm to follow."""
    site = SiteConv2d(
        in_channels,
        out_channels,
        kernel,
        stride=stride,
        padding=kernel // 2,
        groups=groups,
        bias=False,
    )
    site.act_signed = act_signed
    return site


def pooled_features(x: Tensor) -> Tensor:
    """Mean over the image: `[N, C, H, W]` to `[N, C]`, exported as `AveragePool` and `Reshape`.

    `adaptive_avg_pool2d` would come out as a `ReduceMean`, which fewer compilers take for a pool.
    """
    return torch.flatten(F.avg_pool2d(x, [x.shape[2], x.shape[3]]), 1)


def named_sites(net: nn.Module) -> Iterator[tuple[str, Site]]:
    """The sites of a network in float form, with their names."""
    for name, module in net.named_modules():
        if isinstance(module, Site):
            yield name, module


def fixed_layer(site: Site, precision: Precision) -> nn.Module:
    """`site` as a plain Brevitas layer: input quantizer, weight quantizer, same parameters."""
    quantizers = {
        "weight_quant": weight_quantizer(precision.weight_bits),
        "input_quant": act_quantizer(precision.act_bits, signed=site.act_signed),
    }
    layer: nn.Module
    if isinstance(site, SiteConv2d):
        layer = QuantConv2d(
            site.in_channels,
            site.out_channels,
            site.kernel_size,
            stride=site.stride,
            padding=site.padding,
            dilation=site.dilation,
            groups=site.groups,
            bias=site.bias is not None,
            **quantizers,
        )
    else:
        layer = QuantLinear(
            site.in_features, site.out_features, bias=site.bias is not None, **quantizers
        )
    layer.load_state_dict(site.state_dict(), strict=False)
    return layer


def fixed_stream(stream: Stream) -> nn.Module:
    """`stream` as an 8-bit Brevitas activation quantizer."""
    quantized: nn.Module = QuantIdentity(act_quant=act_quantizer(STREAM_BITS, signed=stream.signed))
    return quantized


def replace_sites(net: nn.Module, make: Callable[[str, Site], nn.Module]) -> nn.Module:
    """Put `make(name, site)` in place of every site and quantize every stream; returns `net`."""
    for name, module in list(net.named_modules()):
        if isinstance(module, Site):
            net.set_submodule(name, make(name, module))
        elif isinstance(module, Stream):
            net.set_submodule(name, fixed_stream(module))
    return net
