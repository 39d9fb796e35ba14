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
    divided by the greatest pixel value. `size` is the side of an ImageFolder's square image.
    `shuffle_seed` decides which image falls into which split.
    """

    name: str
    dir: Path | None = None
    limit: Mapping[str, int] = field(default_factory=dict)
    search_fraction: float = 0.2
    val_fraction: float = 0.1
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    size: int = 224
    shuffle_seed: int = 0

    def __post_init__(self) -> None:
        fractions = (self.search_fraction, self.val_fraction)
        if min(fractions) < 0 or sum(fractions) >= 1:
            raise ConfigError(
                f"data.search_fraction {fractions[0]} and data.val_fraction {fractions[1]}"
                " leave no images to train on.",
                hint="Both are at least 0 and together below 1.",
            )
        for split, count in self.limit.items():
            if split not in ("train", "search", "val", "test") or count < 1:
                raise ConfigError(
                    f"data.limit.{split}: {count} is not a limit.",
                    hint="Give a count of at least 1 for train, search, val or test.",
                )
