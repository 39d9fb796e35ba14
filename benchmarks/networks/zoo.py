"""The networks and the policies of the comparison, and their ONNX files.

Weights are random: no kernel's time depends on their values. Every BatchNorm gets random gains and
the statistics of random images, and every activation quantizer is calibrated on those, so codes
are spread over their grids as a trained network's are. At 8/8, calibration gives a residual stream
and its readers one scale, as it does in the peers' files, and the compiler then writes one tensor
for both; where training has moved their scales apart, and below 8 bits, it writes two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.core import ConfigError, Policy, Precision, Site

if TYPE_CHECKING:
    from torch import nn

    from mpqdeploy.nn import ModelSpec

SEED = 0
IMAGES = 4  # for BatchNorm's statistics and for calibration
WIDE = "8/8"


@dataclass(frozen=True, kw_only=True)
class Network:
    """One network of the comparison; `policies` are those that are timed unless others are named.

    Where `pointwise`, only 1x1 convolutions leave 8/8; the first and the last layer always stay.
    """

    name: str
    classes: int
    size: int
    policies: tuple[str, ...]
    pointwise: bool = False

    @property
    def image(self) -> tuple[int, int, int]:
        return (3, self.size, self.size)

    def spec(self) -> ModelSpec:
        from mpqdeploy.nn import ModelSpec

        return ModelSpec(name=self.name, num_classes=self.classes, image=self.image)

    def sites(self) -> tuple[Site, ...]:
        """The quantizable layers; those that stay at 8/8 are pinned."""
        from mpqdeploy.nn import sites

        found = sites(self.spec())
        if not self.pointwise:
            return found
        stay = [site.name for site in found if site.geometry.kernel != (1, 1)]
        return sites(self.spec(), exclude=stay)


_INTERIOR = (WIDE, "4/4", "2/2", "2/4", "1/4", "1/1")
NETWORKS: Mapping[str, Network] = {
    network.name: network
    for network in (
        Network(name="resnet18", classes=1000, size=224, policies=_INTERIOR),
        Network(name="resnet20", classes=10, size=32, policies=_INTERIOR),
        Network(
            name="mobilenetv2",
            classes=1000,
            size=224,
            policies=(WIDE, "4/4", "1/2", "1/1"),
            pointwise=True,
        ),
    )
}


def network(name: str) -> Network:
    """Raises `ConfigError` for a name that is not in `NETWORKS`."""
    try:
        return NETWORKS[name]
    except KeyError:
        raise ConfigError(
            f"there is no network {name!r} to compare.", hint=f"Known: {', '.join(NETWORKS)}."
        ) from None


def policy(sites: tuple[Site, ...], precision: str) -> Policy:
    """Every free site at `precision` ("2/4": 2-bit weights, 4-bit activations), the others 8/8."""
    return Policy.uniform(sites, Precision.parse(precision))


def images(network: Network, count: int = IMAGES, seed: int = SEED) -> NDArray[np.float32]:
    """Standard normal images `[count, C, H, W]`."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, *network.image)).astype(np.float32)


def float_network(network: Network) -> nn.Module:
    """The network in float, in eval mode; the same one at every call."""
    import torch
    from torch import nn

    from mpqdeploy.nn import build_float
    from mpqdeploy.nn.training.batchnorm import recalibrate_batchnorm

    torch.manual_seed(SEED)
    net = build_float(network.spec())
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.2)
    batch = torch.from_numpy(images(network))
    recalibrate_batchnorm(net, [(batch, torch.zeros(len(batch), dtype=torch.long))])
    return net.eval()


def float_file(network: Network, folder: Path) -> Path:
    """`folder/float.onnx`, written unless it is there."""
    from mpqdeploy.export.baseline import float_onnx

    path = folder / "float.onnx"
    if not path.exists():
        float_onnx(float_network(network), network.image, path)
    return path


def qonnx_file(network: Network, precision: str, folder: Path) -> Path:
    """The quantized network as QONNX in `folder`, written unless it is there."""
    path = folder / f"{precision.replace('/', '-')}.qonnx.onnx"
    if not path.exists():
        _export(network, precision, path)
    return path


def _export(network: Network, precision: str, path: Path) -> None:
    import torch

    from mpqdeploy.export.qonnx import export_qonnx
    from mpqdeploy.nn import build_quantized, calibrate, transfer

    net = build_quantized(network.spec(), policy(network.sites(), precision))
    transfer(float_network(network), net)
    calibrate(net, [torch.from_numpy(images(network))])
    export_qonnx(net, network.image, path)
