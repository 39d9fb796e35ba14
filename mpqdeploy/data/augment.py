"""Augmentation of whole batches in numpy; every draw comes from the generator passed in."""

from __future__ import annotations

import numpy as np

from mpqdeploy.data.dataset import Pixels


def shift(pixels: Pixels, reach: int, rng: np.random.Generator) -> Pixels:
    """Move each image by up to `reach` pixels on both axes; zeros come in at the border.

    The same as padding by `reach` and cropping at random. `[N, C, H, W]` in and out.
    """
    count, _, height, width = pixels.shape
    border = ((0, 0), (0, 0), (reach, reach), (reach, reach))
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(pixels, border), (height, width), axis=(2, 3)
    )
    down, right = rng.integers(0, 2 * reach + 1, size=(2, count))
    return np.ascontiguousarray(windows[np.arange(count), :, down, right])


def flip(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Mirror each image left to right with probability one half. `[N, C, H, W]` in and out."""
    chosen = rng.random(len(pixels)) < 0.5
    return np.where(chosen[:, None, None, None], pixels[..., ::-1], pixels)
