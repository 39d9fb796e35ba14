"""Residual blocks [F]: a branch of convolutions, added to a shortcut, quantized once."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch.nn.functional as F
from torch import Tensor, nn

from mpqdeploy.nn.layers import Stream, conv_site


class Residual(nn.Module, ABC):
    """relu(branch(x) + downsample(x)); "downsample" is what torchvision calls the shortcut."""

    expansion = 1
    """Output channels over `channels`."""

    def __init__(self, downsample: nn.Module) -> None:
        super().__init__()
        self.downsample = downsample
        self.stream = Stream()

    @abstractmethod
    def branch(self, x: Tensor) -> Tensor:
        """What is added to the shortcut."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.stream(F.relu(self.branch(x) + self.downsample(x)))
        return out


class BasicBlock(Residual):
    """Two 3x3 convolutions, the first one of `stride`."""

    def __init__(self, in_channels: int, channels: int, stride: int, downsample: nn.Module) -> None:
        super().__init__(downsample)
        self.conv1 = conv_site(in_channels, channels, 3, stride=stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv_site(channels, channels, 3)
        self.bn2 = nn.BatchNorm2d(channels)

    def branch(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        out: Tensor = self.bn2(self.conv2(y))
        return out


class Bottleneck(Residual):
    """1x1 down to `channels`, 3x3 of `stride`, 1x1 up to four times as many.

    The stride is the 3x3 convolution's, as in all published weights of today; the paper had it in
    the first 1x1.
    """

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int, downsample: nn.Module) -> None:
        super().__init__(downsample)
        self.conv1 = conv_site(in_channels, channels, 1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv_site(channels, channels, 3, stride=stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = conv_site(channels, self.expansion * channels, 1)
        self.bn3 = nn.BatchNorm2d(self.expansion * channels)

    def branch(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        out: Tensor = self.bn3(self.conv3(y))
        return out


def projection(in_channels: int, channels: int, stride: int) -> nn.Module:
    """Option B: a 1x1 convolution where the shape changes, else the input itself."""
    if stride == 1 and in_channels == channels:
        return nn.Identity()
    return nn.Sequential(
        conv_site(in_channels, channels, 1, stride=stride), nn.BatchNorm2d(channels)
    )
