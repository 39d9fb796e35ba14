from __future__ import annotations

import numpy as np

from mpqdeploy.data.augment import flip, image_seeds, shift, uniform


def test_shift_moves_whole_images_and_fills_with_zeros() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 255, (64, 2, 6, 5), dtype=np.uint8)
    moved = shift(pixels, 2, image_seeds(0, 0, np.arange(64)))
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
    flipped = flip(pixels, image_seeds(1, 0, np.arange(200)))
    mirrored = (flipped == pixels[..., ::-1]).all(axis=(1, 2, 3))
    kept = (flipped == pixels).all(axis=(1, 2, 3))
    assert (mirrored | kept).all()
    assert 70 < mirrored.sum() < 130


def test_seeds_differ_by_row_epoch_and_seed_and_by_nothing_else() -> None:
    rows = np.arange(1000)
    seeds = [image_seeds(seed, epoch, rows) for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(np.concatenate(seeds).tolist())) == 4000
    np.testing.assert_array_equal(image_seeds(0, 0, rows[500:510]), seeds[0][500:510])


def test_draws_are_uniform_and_independent() -> None:
    seeds = image_seeds(0, 0, np.arange(20000))
    first, second = uniform(seeds, 1), uniform(seeds, 2)
    counts = np.histogram2d(first, second, bins=10, range=((0, 1), (0, 1)))[0]
    assert counts.sum() == 20000
    assert ((counts - 200) ** 2 / 200).sum() < 150  # chi-squared of 99 degrees of freedom


def test_an_image_is_augmented_alike_in_any_batch() -> None:
    pixels = np.random.default_rng(2).integers(0, 255, (40, 3, 8, 8), dtype=np.uint8)
    seeds = image_seeds(5, 3, np.arange(40))
    whole = flip(shift(pixels, 3, seeds), seeds)
    half = flip(shift(pixels[7:20], 3, seeds[7:20]), seeds[7:20])
    np.testing.assert_array_equal(whole[7:20], half)
