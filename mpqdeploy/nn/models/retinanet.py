"""RetinaNet: a residual backbone, a feature pyramid, two heads shared by its levels.

Lin, Goyal, Girshick, He, Dollár: Focal Loss for Dense Object Detection, 2017 (arXiv 1708.02002),
section 4; the pyramid is that of Lin et al. 2017 (arXiv 1612.03144). Ours [o]: BatchNorm in pyramid
and heads, in the heads one per level. A head has one set of weights and one activation scale for
all levels; what a level's own BatchNorm leaves behind has one range on all of them, which a few
bits ask for (docs/decisions/0017-shared-heads.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from mpqdeploy.core import ConfigError
from mpqdeploy.core.detection import Anchors
from mpqdeploy.nn.detection import BoxLoss, Detection
from mpqdeploy.nn.layers import SiteConv2d, Stream, conv_site
from mpqdeploy.nn.models.resnet import RESNET18, RESNET50, SMALL_IMAGE, ResNetTrunk
from mpqdeploy.nn.spec import ModelSpec
from mpqdeploy.nn.task import Kind

STRIDES = (8, 16, 32, 64, 128)  # of P3 to P7
COARSEST_BACKBONE = 32  # stride of C5: the image's sides are multiples of it
PRIOR = 0.01  # what every class' probability starts from (section 4.1)
INITIAL_STD = 0.01

BACKBONES = {"resnet18": RESNET18, "resnet50": RESNET50}


class Pyramid(nn.Module):
    """P3 to P7 from C3, C4, C5: top-down sums of lateral 1x1 convolutions, then 3x3 [F].

    P6 comes from C5 by a convolution of stride 2, P7 from P6 by ReLU and another one.
    """

    def __init__(self, channels: Sequence[int], features: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(conv_site(size, features, 1) for size in channels)
        self.lateral_norms = nn.ModuleList(nn.BatchNorm2d(features) for _ in channels)
        self.sums = nn.ModuleList(Stream(signed=True) for _ in channels)
        self.outputs = nn.ModuleList(
            conv_site(features, features, 3, act_signed=True) for _ in channels
        )
        self.p6 = conv_site(channels[-1], features, 3, stride=2)
        self.p7 = conv_site(features, features, 3, stride=2)
        self.norms = nn.ModuleList(nn.BatchNorm2d(features) for _ in STRIDES)
        # Both heads read a level, and the next coarser one may: it is quantized once.
        self.levels = nn.ModuleList(Stream(signed=True) for _ in STRIDES)

    def forward(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """Feature maps of strides 8, 16, 32 to five of strides 8 to 128."""
        merged: list[Tensor] = []
        for index in reversed(range(len(stages))):
            x = self.lateral_norms[index](self.laterals[index](stages[index]))
            if merged:
                x = x + F.interpolate(merged[0], scale_factor=2.0, mode="nearest")
            merged.insert(0, self.sums[index](x))
        maps = [conv(x) for conv, x in zip(self.outputs, merged, strict=True)]
        levels = [self._level(index, x) for index, x in enumerate(maps)]
        levels.append(self._level(3, self.p6(stages[-1])))
        levels.append(self._level(4, self.p7(F.relu(levels[-1]))))
        return levels

    def _level(self, index: int, x: Tensor) -> Tensor:
        level: Tensor = self.levels[index](self.norms[index](x))
        return level


class Head(nn.Module):
    """`depth` 3x3 convolutions with ReLU, then one to `outputs` channels, for every level alike."""

    def __init__(self, features: int, depth: int, outputs: int, *, bias: float = 0.0) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            conv_site(features, features, 3, act_signed=index == 0) for index in range(depth)
        )
        self.norms = nn.ModuleList(
            nn.ModuleList(nn.BatchNorm2d(features) for _ in STRIDES) for _ in range(depth)
        )
        self.predict = SiteConv2d(features, outputs, 3, padding=1)
        self.predict.act_signed = depth == 0
        nn.init.normal_(self.predict.weight, std=INITIAL_STD)
        if self.predict.bias is not None:
            nn.init.constant_(self.predict.bias, bias)

    def forward(self, x: Tensor, level: int) -> Tensor:
        for conv, norms in zip(self.convs, self.norms, strict=True):
            x = F.relu(norms[level](conv(x)))  # type: ignore[index]
        predicted: Tensor = self.predict(x)
        return predicted


class RetinaNet(nn.Module):
    """`width` is the backbone's, `features` the pyramid's and the heads' channels, `depth` the
    convolutions in each head; the paper's are 64, 256 and 4. `anchor_size`, `octaves` and `ratios`
    are those of `Anchors`. Images are multiples of 32 pixels high and wide."""

    kind: ClassVar[Kind] = Detection.kind
    last: ClassVar[tuple[str, ...]] = ("class_head.predict", "box_head.predict")

    def __init__(
        self,
        spec: ModelSpec,
        *,
        backbone: str = "resnet18",
        width: int = 64,
        features: int = 256,
        depth: int = 4,
        anchor_size: float = 4.0,
        octaves: int = 3,
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
        box_loss: BoxLoss = "smooth_l1",
    ) -> None:
        super().__init__()
        _check(spec, backbone)
        _, height, columns = spec.image
        self.task = Detection(
            anchors=Anchors(
                image=(height, columns),
                strides=STRIDES,
                size=anchor_size,
                octaves=octaves,
                ratios=tuple(ratios),
            ),
            box_loss=box_loss,
        )
        self.backbone = ResNetTrunk(spec, BACKBONES[backbone], width=width)
        self.pyramid = Pyramid(self.backbone.channels[1:], features)
        per_cell = self.task.anchors.per_cell
        prior = -math.log((1 - PRIOR) / PRIOR)
        self.class_head = Head(features, depth, per_cell * spec.num_classes, bias=prior)
        self.box_head = Head(features, depth, per_cell * 4)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Images `[N, C, H, W]` to class logits of P3 to P7, then deltas of P3 to P7."""
        levels = self.pyramid(self.backbone.stages(x)[1:])
        logits = [self.class_head(x, level) for level, x in enumerate(levels)]
        deltas = [self.box_head(x, level) for level, x in enumerate(levels)]
        return (*logits, *deltas)


def _check(spec: ModelSpec, backbone: str) -> None:
    if backbone not in BACKBONES:
        raise ConfigError(
            f"there is no backbone {backbone!r}.", hint=f"Choose one of {', '.join(BACKBONES)}."
        )
    # Smaller images get a backbone of other strides.
    if min(spec.image[1:]) < SMALL_IMAGE or any(s % COARSEST_BACKBONE for s in spec.image[1:]):
        raise ConfigError(
            f"retinanet takes images whose sides are multiples of {COARSEST_BACKBONE} and at least"
            f" {SMALL_IMAGE}, not {spec.image[1]} x {spec.image[2]}.",
            hint="Set data.size to 256, for instance.",
        )
