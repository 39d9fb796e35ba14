from __future__ import annotations

import numpy as np

from mpqdeploy.data.augment import flip, shift


def test_shift_moves_whole_images_and_fills_with_zeros() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 255, (64, 2, 6, 5), dtype=np.uint8)
    moved = shift(pixels, 2, rng)
    padded = np.pad(pixels, ((0, 0), (0, 0), (2, 2), (2, 2)))
    offsets = set()
    for before, after in zip(padded, moved, strict=True):
        hits = [
            (y, x)
            for y in range(5)
            for x in range(5)
            if np.array_equal(before[:, y : y + 6, x : x + 5], after)
        ]
        assert len(hits) == 1
        offsets.update(hits)
    assert len(offsets) > 15


def test_flip_mirrors_about_half() -> None:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 255, (200, 1, 4, 5), dtype=np.uint8)
    flipped = flip(pixels, rng)
    mirrored = (flipped == pixels[..., ::-1]).all(axis=(1, 2, 3))
    kept = (flipped == pixels).all(axis=(1, 2, 3))
    assert (mirrored | kept).all()
    assert 70 < mirrored.sum() < 130
