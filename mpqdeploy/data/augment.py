"""Augmentation of whole batches in numpy; what an image draws comes from its own seed alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.data.dataset import Pixels, Rows, Seeds

_AUGMENTATION = 1
"""Keeps these random numbers apart from the shuffle's."""

_DOWN, _RIGHT, _MIRROR = 1, 2, 3
"""Which draw of an image: two draws of one seed are independent."""

_GOLDEN = 0x9E3779B97F4A7C15
_WORD = 1 << 64
_ODD = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))


def image_seeds(seed: int, epoch: int, rows: Rows) -> Seeds:
    """A seed per row of a split, another one in every epoch."""
    rng = np.random.default_rng([seed, epoch, _AUGMENTATION])
    of_epoch = rng.integers(1 << 63, dtype=np.uint64)
    return _mixed(of_epoch + rows.astype(np.uint64) * np.uint64(_GOLDEN))


def uniform(seeds: Seeds, draw: int) -> NDArray[np.float64]:
    """A number in [0, 1) per seed; `draw` counts the numbers that an image needs."""
    mixed = _mixed(seeds + np.uint64(draw * _GOLDEN % _WORD))
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def shift(pixels: Pixels, reach: int, seeds: Seeds) -> Pixels:
    """Move each image by up to `reach` pixels on both axes; zeros come in at the border.

    The same as padding by `reach` and cropping at random. `[N, C, H, W]` in and out.
    """
    count, _, height, width = pixels.shape
    border = ((0, 0), (0, 0), (reach, reach), (reach, reach))
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(pixels, border), (height, width), axis=(2, 3)
    )
    down, right = (
        (uniform(seeds, draw) * (2 * reach + 1)).astype(np.int64) for draw in (_DOWN, _RIGHT)
    )
    return np.ascontiguousarray(windows[np.arange(count), :, down, right])


def flip(pixels: Pixels, seeds: Seeds) -> Pixels:
    """Mirror each image left to right with probability one half. `[N, C, H, W]` in and out."""
    chosen = uniform(seeds, _MIRROR) < 0.5
    return np.where(chosen[:, None, None, None], pixels[..., ::-1], pixels)


def _mixed(values: Seeds) -> Seeds:
    """splitmix64's finalizer: every bit of the input decides about every bit of the output."""
    for odd, by in zip(_ODD, _SHIFTS, strict=False):
        values = (values ^ (values >> by)) * odd
    return values ^ (values >> _SHIFTS[2])
