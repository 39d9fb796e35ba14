"""MobileNetV2 [F], under torchvision's parameter names.

Images of less than 64 pixels get a stem and a second stage of stride 1, as is usual for CIFAR.
"""

from __future__ import annotations

from torch import Tensor, nn

from mpqdeploy.nn.layers import SiteLinear, Stream, conv_site, pooled_features
from mpqdeploy.nn.models.inverted import InvertedResidual, conv_bn_relu, divisible
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


class MobileNetV2(nn.Module):
    def __init__(self, spec: ModelSpec, *, width: float = 1.0, dropout: float = 0.0) -> None:
        super().__init__()
        small = min(spec.image[1:]) < SMALL_IMAGE
        channels = divisible(STEM_CHANNELS * width)
        stride = 1 if small else 2
        stem = conv_bn_relu(conv_site(spec.image[0], channels, 3, stride=stride, act_signed=True))
        blocks: list[nn.Module] = []
        for index, (expansion, out, count, stage_stride) in enumerate(STAGES):
            for number in range(count):
                first = number == 0 and not (small and index == 1)
                block = InvertedResidual(
                    channels,
                    divisible(out * width),
                    stride=stage_stride if first else 1,
                    expansion=expansion,
                    signed=bool(blocks),
                )
                blocks.append(block)
                channels = divisible(out * width)
        last = divisible(LAST_CHANNELS * max(1.0, width))
        head = conv_bn_relu(conv_site(channels, last, 1, act_signed=True))
        self.features = nn.Sequential(stem, *blocks, head)
        self.stream = Stream()
        self.classifier = nn.Sequential(nn.Dropout(dropout), SiteLinear(last, spec.num_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Images `[N, C, H, W]` to logits `[N, num_classes]`."""
        logits: Tensor = self.classifier(pooled_features(self.stream(self.features(x))))
        return logits
