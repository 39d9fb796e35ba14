"""Families of small networks like MobileNetV2 [r]: a table of stages, and options that shape them.

Every network of a family is one of its options: what an architecture search chooses from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from mpqdeploy.core import ConfigError
from mpqdeploy.nn.layers import SiteLinear, Stream, conv_site, pooled_features
from mpqdeploy.nn.models.inverted import InvertedResidual, conv_bn_relu, divisible
from mpqdeploy.nn.spec import ModelSpec

LARGEST_KERNEL = 7


@dataclass(frozen=True, kw_only=True)
class Stage:
    """`repeats` blocks of the same width, the first one of `stride`: the defaults of its options.

    A stage of stride 1 may be left out, with 0 repeats.
    """

    channels: int
    stride: int = 1
    kernel: int = 3
    expansion: int = 6
    repeats: int = 1

    @property
    def fewest(self) -> int:
        """Fewest repeats: one block has to halve the image where the stage does."""
        return 0 if self.stride == 1 else 1

    def width(self, multiplier: float) -> int:
        """Channels at a width multiplier: multiples of 8."""
        return divisible(self.channels * multiplier)


@dataclass(frozen=True, kw_only=True)
class Family:
    """Channels of the stem and of the head, and the stages between them."""

    stem: int
    stages: tuple[Stage, ...]
    head: int

    def head_width(self, multiplier: float) -> int:
        return divisible(self.head * multiplier)


class Mobile(nn.Module):
    """`kernels`, `widths` (multipliers), `expansions` and `repeats` have one entry per stage.

    `head_width` multiplies the channels before the classifier. Raises `ConfigError` naming the
    option and the stage for a value that no network can be built with.
    """

    family: Family

    def __init__(
        self,
        spec: ModelSpec,
        *,
        kernels: Sequence[int] | None = None,
        widths: Sequence[float] | None = None,
        expansions: Sequence[int] | None = None,
        repeats: Sequence[int] | None = None,
        head_width: float = 1.0,
    ) -> None:
        super().__init__()
        stages = self.family.stages
        usual: dict[str, Sequence[float]] = {
            "kernels": [stage.kernel for stage in stages],
            "widths": [1.0] * len(stages),
            "expansions": [stage.expansion for stage in stages],
            "repeats": [stage.repeats for stage in stages],
        }
        given = (kernels, widths, expansions, repeats)
        shapes = {
            option: default if values is None else values
            for (option, default), values in zip(usual.items(), given, strict=True)
        }
        _check(spec.name, stages, shapes, head_width)
        stem = conv_site(spec.image[0], self.family.stem, 3, act_signed=True)
        self.stem = nn.Sequential(conv_bn_relu(stem), Stream())
        channels, first = self.family.stem, True
        self.stages = nn.Sequential()
        for stage, kernel, width, expansion, count in zip(stages, *shapes.values(), strict=True):
            blocks = nn.Sequential()
            for number in range(count):
                block = InvertedResidual(
                    channels,
                    stage.width(width),
                    stride=1 if number else stage.stride,
                    expansion=expansion,
                    kernel=kernel,
                    signed=not first,
                )
                blocks.append(block)
                channels, first = stage.width(width), False
            self.stages.append(blocks)
        last = self.family.head_width(head_width)
        self.head = conv_bn_relu(conv_site(channels, last, 1, act_signed=not first))
        self.stream = Stream()
        self.classifier = SiteLinear(last, spec.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images `[N, C, H, W]` to logits `[N, num_classes]`."""
        x = self.stream(self.head(self.stages(self.stem(x))))
        logits: Tensor = self.classifier(pooled_features(x))
        return logits


class MobileCifar(Mobile):
    """For 32x32 images: MobileNetV2's stages [F], the first two and the stem of stride 1."""

    family = Family(
        stem=32,
        stages=(
            Stage(channels=16, expansion=1),
            Stage(channels=24, repeats=2),
            Stage(channels=32, stride=2, repeats=3),
            Stage(channels=64, stride=2, repeats=4),
            Stage(channels=96, repeats=3),
            Stage(channels=160, stride=2, repeats=3),
            Stage(channels=320),
        ),
        head=1280,
    )


class MobileDigits(Mobile):
    """For 8x8 images: three stages that end at 2x2 pixels [o]."""

    family = Family(
        stem=16,
        stages=(
            Stage(channels=16, expansion=2),
            Stage(channels=24, stride=2, expansion=3, repeats=2),
            Stage(channels=40, stride=2, expansion=3, repeats=2),
        ),
        head=96,
    )


def _check(
    name: str, stages: Sequence[Stage], shapes: dict[str, Sequence[float]], head_width: float
) -> None:
    for option, values in shapes.items():
        if not isinstance(values, Sequence) or len(values) != len(stages):
            raise ConfigError(
                f"model.options.{option}: {values!r} is not a list of {len(stages)} entries.",
                hint=f"Model {name!r} has {len(stages)} stages: give one entry for each.",
            )
        for number, (stage, value) in enumerate(zip(stages, values, strict=True)):
            fits, allowed = _allowed(option, stage, value)
            if not fits:
                raise ConfigError(
                    f"model.options.{option}: {value!r} for stage {number} is not possible.",
                    hint=f"Allowed: {allowed}.",
                )
    if not _number(head_width) or head_width <= 0:
        raise ConfigError(
            f"model.options.head_width: {head_width!r} is not possible.",
            hint="Allowed: a number above 0.",
        )


def _allowed(option: str, stage: Stage, value: Any) -> tuple[bool, str]:
    """Whether a value is possible, and what is."""
    if option == "widths":
        return _number(value) and value > 0, "a number above 0"
    whole = isinstance(value, int) and not isinstance(value, bool)
    if option == "kernels":
        odd = range(1, LARGEST_KERNEL + 1, 2)
        return whole and value in odd, ", ".join(map(str, odd))
    least = stage.fewest if option == "repeats" else 1
    return whole and value >= least, f"a whole number from {least}"


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
