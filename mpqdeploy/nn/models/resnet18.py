"""ResNet-18 with projection shortcuts [F], under torchvision's parameter names.

Images of less than 64 pixels get CIFAR's stem (3x3, stride 1, no pooling) instead of ImageNet's.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mpqdeploy.nn.layers import SiteLinear, Stream, conv_site, pooled_features
from mpqdeploy.nn.spec import ModelSpec

SMALL_IMAGE = 64


class BasicBlock(nn.Module):
    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv_site(in_channels, channels, 3, stride=stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv_site(channels, channels, 3)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                conv_site(in_channels, channels, 1, stride=stride), nn.BatchNorm2d(channels)
            )
        self.stream = Stream()

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        out: Tensor = self.stream(F.relu(y + self.downsample(x)))
        return out


class ResNet18Trunk(nn.Module):
    """All but the classifier: what a detector has for a backbone."""

    def __init__(self, spec: ModelSpec, *, width: int = 64) -> None:
        super().__init__()
        small = min(spec.image[1:]) < SMALL_IMAGE
        kernel, stride = (3, 1) if small else (7, 2)
        self.conv1 = conv_site(spec.image[0], width, kernel, stride=stride, act_signed=True)
        self.bn1 = nn.BatchNorm2d(width)
        self.stream = Stream()
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(width, width, stride=1)
        self.layer2 = _stage(width, 2 * width, stride=2)
        self.layer3 = _stage(2 * width, 4 * width, stride=2)
        self.layer4 = _stage(4 * width, 8 * width, stride=2)
        self.channels = (width, 2 * width, 4 * width, 8 * width)

    def stages(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Images `[N, C, H, W]` to the feature maps C2 to C5, of `channels`."""
        # The maximum of codes is the code of the maximum, so the pool runs on 8 bits.
        x = self.maxpool(self.stream(F.relu(self.bn1(self.conv1(x)))))
        c2 = self.layer1(x)
        c3 = self.layer2(c2)
        c4 = self.layer3(c3)
        return c2, c3, c4, self.layer4(c4)


class ResNet18(ResNet18Trunk):
    def __init__(self, spec: ModelSpec, *, width: int = 64) -> None:
        super().__init__(spec, width=width)
        self.fc = SiteLinear(self.channels[-1], spec.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images `[N, C, H, W]` to logits `[N, num_classes]`."""
        logits: Tensor = self.fc(pooled_features(self.stages(x)[-1]))
        return logits


def _stage(in_channels: int, channels: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(
        BasicBlock(in_channels, channels, stride), BasicBlock(channels, channels, 1)
    )
