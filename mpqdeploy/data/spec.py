"""`DataSpec`: which data set, where it lies and how it is cut."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mpqdeploy.core import ConfigError

Split = Literal["train", "search", "fit", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "search", "fit", "val", "test")


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """A data set by name, with the choices a user has.

    The training images are cut, class by class, into `val` (`val_fraction`), `search`
    (`search_fraction`: the held-out part that the architecture's logits learn from [r]) and
    `train` (the rest, for the weights). `limit` caps a split, for quick runs. `mean` and `std`
    replace the data set's own, for a checkpoint that was trained with others; they apply to pixels
    divided by the greatest pixel value. `shuffle_seed` decides which image falls into which split.

    For data sets that are decoded when they are read: `size` is the side of a square image,
    `resize` the shorter side from which evaluation cuts it (None: 256/224 of `size`), `jitter` by
    how much brightness, contrast and saturation vary in training, as a share, and `workers` how
    many processes decode (None: the machine's cores, at most 8).
    """

    name: str
    dir: Path | None = None
    limit: Mapping[str, int] = field(default_factory=dict)
    search_fraction: float = 0.2
    val_fraction: float = 0.1
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    size: int = 224
    resize: int | None = None
    jitter: float = 0.0
    workers: int | None = None
    shuffle_seed: int = 0

    def __post_init__(self) -> None:
        fractions = (self.search_fraction, self.val_fraction)
        if min(fractions) < 0 or sum(fractions) >= 1:
            raise ConfigError(
                f"data.search_fraction {fractions[0]} and data.val_fraction {fractions[1]}"
                " leave no images to train on.",
                hint="Both are at least 0 and together below 1.",
            )
        if self.resize is not None and self.resize < self.size:
            raise ConfigError(
                f"data.resize: a square of {self.size} pixels cannot be cut from a side of"
                f" {self.resize}.",
                hint="Give at least data.size.",
            )
        for split, count in self.limit.items():
            if split not in ("train", "search", "val", "test") or count < 1:
                raise ConfigError(
                    f"data.limit.{split}: {count} is not a limit.",
                    hint="Give a count of at least 1 for train, search, val or test.",
                )
