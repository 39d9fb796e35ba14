"""`ModelSpec`: which network to build, and for which images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A name out of `MODELS`, the number of classes, the image as (channels, height, width).

    `options` are the model's own hyper-parameters, such as MobileNetV2's `width`.
    """

    name: str
    num_classes: int
    image: tuple[int, int, int]
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", MappingProxyType(dict(self.options)))

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (self.name, self.num_classes, self.image, dict(self.options)))


def _rebuild(
    name: str, num_classes: int, image: tuple[int, int, int], options: dict[str, Any]
) -> ModelSpec:
    return ModelSpec(name=name, num_classes=num_classes, image=image, options=options)
