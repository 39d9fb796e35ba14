"""MobileNetV2 [F], under torchvision's parameter names.

Images of less than 64 pixels get a stem and a second stage of stride 1, as is usual for CIFAR.
"""

from __future__ import annotations

from torch import Tensor, nn

from mpqdeploy.nn.layers import SiteLinear, Stream, conv_site, pooled_features
from mpqdeploy.nn.spec import ModelSpec

SMALL_IMAGE = 64
STEM_CHANNELS = 32
LAST_CHANNELS = 1280
# Expansion, output channels, number of blocks, stride of the first one.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class ConvBNReLU(nn.Sequential):
    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        act_signed: bool = False,
    ) -> None:
        conv = conv_site(
            in_channels, channels, kernel, stride=stride, groups=groups, act_signed=act_signed
        )
        super().__init__(conv, nn.BatchNorm2d(channels), nn.ReLU6())


class InvertedResidual(nn.Module):
    """Expand, filter by depth, project: the projection has no ReLU, so the stream is signed."""

    def __init__(self, in_channels: int, channels: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(ConvBNReLU(in_channels, hidden, 1, act_signed=True))
        layers += [
            ConvBNReLU(hidden, hidden, 3, stride=stride, groups=hidden),
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


class MobileNetV2(nn.Module):
    def __init__(self, spec: ModelSpec, *, width: float = 1.0, dropout: float = 0.0) -> None:
        super().__init__()
        small = min(spec.image[1:]) < SMALL_IMAGE
        channels = _divisible(STEM_CHANNELS * width)
        stem = ConvBNReLU(spec.image[0], channels, 3, stride=1 if small else 2, act_signed=True)
        blocks: list[nn.Module] = []
        for index, (expansion, out, count, stage_stride) in enumerate(STAGES):
            for number in range(count):
                first = number == 0 and not (small and index == 1)
                block = InvertedResidual(
                    channels,
                    _divisible(out * width),
                    stride=stage_stride if first else 1,
                    expansion=expansion,
                )
                blocks.append(block)
                channels = _divisible(out * width)
        last = _divisible(LAST_CHANNELS * max(1.0, width))
        head = ConvBNReLU(channels, last, 1, act_signed=True)
        self.features = nn.Sequential(stem, *blocks, head)
        self.stream = Stream()
        self.classifier = nn.Sequential(nn.Dropout(dropout), SiteLinear(last, spec.num_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Images `[N, C, H, W]` to logits `[N, num_classes]`."""
        logits: Tensor = self.classifier(pooled_features(self.stream(self.features(x))))
        return logits


def _divisible(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of `divisor` that is no more than 10% below `channels` [F]."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded
