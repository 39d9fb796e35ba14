"""ResNet-20 for 32x32 images: three stages of three basic blocks, parameter-free shortcuts [F]."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mpqdeploy.nn.layers import SiteLinear, Stream, conv_site, pooled_features
from mpqdeploy.nn.models.residual import BasicBlock
from mpqdeploy.nn.spec import ModelSpec

BLOCKS = 3


class ZeroPadShortcut(nn.Module):
    """Option A: every `stride`-th pixel, and zero channels, half on either side, up to `channels`.

    Subsampling commutes with quantization and zero is a code, so this costs the compiled network
    only a different read of the stream.
    """

    def __init__(self, *, stride: int, extra_channels: int) -> None:
        super().__init__()
        self.stride = stride
        self.extra = extra_channels // 2

    def forward(self, x: Tensor) -> Tensor:
        strided = x[:, :, :: self.stride, :: self.stride]
        return F.pad(strided, (0, 0, 0, 0, self.extra, self.extra))


class ResNet20(nn.Module):
    def __init__(self, spec: ModelSpec, *, width: int = 16) -> None:
        super().__init__()
        self.conv1 = conv_site(spec.image[0], width, 3, act_signed=True)
        self.bn1 = nn.BatchNorm2d(width)
        self.stream = Stream()
        self.layer1 = _stage(width, width, stride=1)
        self.layer2 = _stage(width, 2 * width, stride=2)
        self.layer3 = _stage(2 * width, 4 * width, stride=2)
        self.linear = SiteLinear(4 * width, spec.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images `[N, C, H, W]` to logits `[N, num_classes]`."""
        x = self.stream(F.relu(self.bn1(self.conv1(x))))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(pooled_features(x))
        return logits


def _stage(in_channels: int, channels: int, *, stride: int) -> nn.Sequential:
    pad: nn.Module = nn.Identity()
    if stride != 1:
        pad = ZeroPadShortcut(stride=stride, extra_channels=channels - in_channels)
    first = BasicBlock(in_channels, channels, stride, pad)
    rest = (BasicBlock(channels, channels, 1, nn.Identity()) for _ in range(BLOCKS - 1))
    return nn.Sequential(first, *rest)
