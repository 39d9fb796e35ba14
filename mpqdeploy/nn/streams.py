"""Sites that read a residual stream at the stream's own width share its quantizer.

A stream is quantized once, to 8 bits. A site that reads it at 8 bits through a scale of its own
would requantize 8-bit codes to 8-bit codes: nothing is gained, each scale loses a little, and a
compiled network has to store the same tensor once per scale (ResNet-20 at 8/8 takes 15 % longer).
With one quantizer for all of them, every such reader finds its codes where the stream lies [o].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mpqdeploy.core import Policy
from mpqdeploy.nn.layers import Site, Stream, named_sites
from mpqdeploy.nn.quantizers import STREAM_BITS, ActQuant


def stream_readers(net: nn.Module, image: Tensor) -> dict[str, str]:
    """Stream by site, of every site whose only input, in one forward pass, is that stream's output.

    `net` is in float form and evaluation mode, both on any device, the meta device too. A stream
    of other signedness than the site's does not count.
    """
    streams = {name: m for name, m in net.named_modules() if isinstance(m, Stream)}
    outputs: list[tuple[Tensor, str]] = []  # kept alive: the identity of a tensor is all there is
    read: dict[str, set[str | None]] = {name: set() for name, _ in named_sites(net)}
    hooks = [
        stream.register_forward_hook(lambda _, __, out, name=name: outputs.append((out, name)))
        for name, stream in streams.items()
    ]
    for name, site in named_sites(net):

        def note(site: Site, args: tuple[Any, ...], name: str = name) -> None:
            found = next((of for out, of in outputs if out is args[0]), None)
            fits = found is not None and streams[found].signed == site.act_signed
            read[name].add(found if fits else None)

        hooks.append(site.register_forward_pre_hook(note))
    try:
        with torch.no_grad():
            net(image)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: str(*of) for name, of in read.items() if len(of) == 1 and None not in of}


def share_streams(net: nn.Module, readers: Mapping[str, str], policy: Policy) -> None:
    """Give the sites of a quantized network that read a stream at its width the stream's quantizer.

    In place; `readers` as from `stream_readers`. One module then is at several places: it has one
    scale, and what lists quantizers lists it once.
    """
    for site, stream in readers.items():
        if policy[site].act_bits == STREAM_BITS:
            _, quantizer = _quantizer(net, f"{stream}.act_quant")
            place, _ = _quantizer(net, f"{site}.input_quant")
            net.set_submodule(place, quantizer)


def _quantizer(net: nn.Module, below: str) -> tuple[str, ActQuant]:
    """The activation quantizer in Brevitas' proxy of that name, and its own name."""
    for name, module in net.get_submodule(below).named_modules(remove_duplicate=False):
        if isinstance(module, ActQuant):
            return f"{below}.{name}", module
    raise ValueError(f"{below} has no activation quantizer")
