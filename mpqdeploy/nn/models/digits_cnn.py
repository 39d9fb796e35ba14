"""A small CNN for 8x8 grey digits: wide enough for a width's latency to show."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mpqdeploy.nn.layers import SiteLinear, Stream, conv_site, pooled_features
from mpqdeploy.nn.spec import ModelSpec


class DigitsCNN(nn.Module):
    """Five 3x3 convolutions, `width` to 4 `width` channels, two of them of stride 2."""

    def __init__(self, spec: ModelSpec, *, width: int = 16) -> None:
        super().__init__()
        self.conv1 = conv_site(spec.image[0], width, 3, act_signed=True)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv_site(width, 2 * width, 3)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.conv3 = conv_site(2 * width, 2 * width, 3, stride=2)
        self.bn3 = nn.BatchNorm2d(2 * width)
        self.conv4 = conv_site(2 * width, 4 * width, 3)
        self.bn4 = nn.BatchNorm2d(4 * width)
        self.conv5 = conv_site(4 * width, 4 * width, 3, stride=2)
        self.bn5 = nn.BatchNorm2d(4 * width)
        self.stream = Stream()
        self.linear = SiteLinear(4 * width, spec.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images `[N, C, H, W]` to logits `[N, num_classes]`."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.relu(self.bn3(self.conv3(x)))
        x = F.relu(self.bn4(self.conv4(x)))
        # The compiled pooling adds integers, so its input is quantized.
        x = self.stream(F.relu(self.bn5(self.conv5(x))))
        logits: Tensor = self.linear(pooled_features(x))
        return logits
