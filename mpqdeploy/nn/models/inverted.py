"""Inverted residual blocks [F]: what MobileNetV2 and the networks like it are built from."""

from __future__ import annotations

from torch import Tensor, nn

from mpqdeploy.nn.layers import SiteConv2d, Stream, conv_site


def conv_bn_relu(conv: SiteConv2d) -> nn.Sequential:
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU6())


class InvertedResidual(nn.Module):
    """Expand, filter by depth, project: the projection has no ReLU, so the stream is signed.

    `signed`: whether the input is such a stream; that of the first block comes from a ReLU.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        stride: int,
        expansion: int,
        kernel: int = 3,
        signed: bool = True,
    ) -> None:
        super().__init__()
        hidden = in_channels * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(conv_bn_relu(conv_site(in_channels, hidden, 1, act_signed=signed)))
            signed = False
        by_depth = conv_site(
            hidden, hidden, kernel, stride=stride, groups=hidden, act_signed=signed
        )
        layers += [
            conv_bn_relu(by_depth),
            conv_site(hidden, channels, 1),
            nn.BatchNorm2d(channels),
        ]
        self.conv = nn.Sequential(*layers)
        self.adds = stride == 1 and in_channels == channels
        self.stream = Stream(signed=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        out: Tensor = self.stream(x + y if self.adds else y)
        return out


def divisible(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of `divisor` that is no more than 10% below `channels` [F]."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded
