"""ImageNet's ResNets with projection shortcuts [F], under torchvision's parameter names.

Images of less than 64 pixels get CIFAR's stem (3x3, stride 1, no pooling) instead of ImageNet's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from mpqdeploy.nn.layers import SiteLinear, Stream, conv_site, pooled_features
from mpqdeploy.nn.models.residual import BasicBlock, Bottleneck, projection
from mpqdeploy.nn.spec import ModelSpec

SMALL_IMAGE = 64


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What tells one ResNet from another: its block, and how many of them each stage has."""

    block: type[BasicBlock | Bottleneck]
    counts: tuple[int, int, int, int]


RESNET18 = Layout(block=BasicBlock, counts=(2, 2, 2, 2))
RESNET50 = Layout(block=Bottleneck, counts=(3, 4, 6, 3))


class ResNetTrunk(nn.Module):
    """All but the classifier: what a detector has for a backbone.

    `width` is the stem's channels; `channels` those of the four stages' outputs.
    """

    def __init__(self, spec: ModelSpec, layout: Layout, *, width: int = 64) -> None:
        super().__init__()
        small = min(spec.image[1:]) < SMALL_IMAGE
        kernel, stride = (3, 1) if small else (7, 2)
        self.conv1 = conv_site(spec.image[0], width, kernel, stride=stride, act_signed=True)
        self.bn1 = nn.BatchNorm2d(width)
        self.stream = Stream()
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, stride=2, padding=1)
        inner = (width, 2 * width, 4 * width, 8 * width)
        self.channels = tuple(layout.block.expansion * channels for channels in inner)
        before = (width, *self.channels)
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            _stage(layout, index, before[index], inner[index]) for index in range(4)
        )

    def stages(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Images `[N, C, H, W]` to the feature maps C2 to C5, of `channels`."""
        # The maximum of codes is the code of the maximum, so the pool runs on 8 bits.
        x = self.maxpool(self.stream(F.relu(self.bn1(self.conv1(x)))))
        c2 = self.layer1(x)
        c3 = self.layer2(c2)
        c4 = self.layer3(c3)
        return c2, c3, c4, self.layer4(c4)


class ResNet(ResNetTrunk):
    def __init__(self, spec: ModelSpec, layout: Layout, *, width: int) -> None:
        super().__init__(spec, layout, width=width)
        self.fc = SiteLinear(self.channels[-1], spec.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images `[N, C, H, W]` to logits `[N, num_classes]`."""
        logits: Tensor = self.fc(pooled_features(self.stages(x)[-1]))
        return logits


class ResNet18(ResNet):
    """11.7 million parameters at width 64 and 1000 classes."""

    def __init__(self, spec: ModelSpec, *, width: int = 64) -> None:
        super().__init__(spec, RESNET18, width=width)


class ResNet50(ResNet):
    """25.6 million parameters at width 64 and 1000 classes."""

    def __init__(self, spec: ModelSpec, *, width: int = 64) -> None:
        super().__init__(spec, RESNET50, width=width)


def _stage(layout: Layout, index: int, in_channels: int, channels: int) -> nn.Sequential:
    block, stride = layout.block, 1 if index == 0 else 2
    wide = block.expansion * channels
    first = block(in_channels, channels, stride, projection(in_channels, wide, stride))
    rest = (block(wide, channels, 1, nn.Identity()) for _ in range(layout.counts[index] - 1))
    return nn.Sequential(first, *rest)
