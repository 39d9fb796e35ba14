"""`Preprocessing`: from pixels to what a network reads; shipped in the bundle's manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """`(pixel / scale - mean) / std`, one mean and one deviation per channel."""

    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or min(self.std) <= 0 or self.scale <= 0:
            raise ConfigError(
                f"data.mean {list(self.mean)} and data.std {list(self.std)} do not go together.",
                hint="Give one mean and one positive deviation per channel.",
            )

    def replaced(
        self, mean: tuple[float, ...] | None, std: tuple[float, ...] | None
    ) -> Preprocessing:
        """The same with the user's statistics where given, of as many channels."""
        chosen = Preprocessing(scale=self.scale, mean=mean or self.mean, std=std or self.std)
        if len(chosen.mean) != len(self.mean):
            raise ConfigError(
                f"data.mean has {len(chosen.mean)} values for images of {len(self.mean)} channels.",
                hint="Give one value per channel.",
            )
        return chosen

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 `[N, C, H, W]` to normalised float32 of the same shape."""
        shape = (1, -1, 1, 1)
        gain = np.array([1 / (self.scale * s) for s in self.std], dtype=np.float32)
        shift = np.array([-m / s for m, s in zip(self.mean, self.std, strict=True)], np.float32)
        images = pixels.astype(np.float32)
        images *= gain.reshape(shape)
        images += shift.reshape(shape)
        return images

    def to_json(self) -> dict[str, Any]:
        return {"scale": self.scale, "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Preprocessing:
        fields = {**data, "mean": tuple(data["mean"]), "std": tuple(data["std"])}
        return cls(**fields)
