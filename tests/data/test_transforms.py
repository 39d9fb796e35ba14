from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mpqdeploy.data.transforms import _random_box, evaluation_view, training_view

SIZES = [(500, 375), (375, 500), (64, 64), (97, 301), (1200, 256), (33, 40)]


def photo(width: int, height: int) -> Image.Image:
    """Smooth colours with some noise, so that a wrong phase of the resampling shows."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / 7.0 + channel) + np.cos(y / 5.0) for channel in range(3)]
    noise = np.random.default_rng(0).normal(0, 10, (height, width, 3))
    pixels = np.clip(128 + 55 * np.stack(waves, -1) + noise, 0, 255)
    return Image.fromarray(pixels.astype(np.uint8))


def standard_evaluation(picture: Image.Image, side: int, resize: int) -> Image.Image:
    """`Resize(resize)` and `CenterCrop(side)`, step by step."""
    width, height = picture.size
    if width <= height:
        wide, high = resize, int(resize * height / width)
    else:
        wide, high = int(resize * width / height), resize
    resized = picture.resize((wide, high), Image.Resampling.BILINEAR)
    top, left = round((high - side) / 2.0), round((wide - side) / 2.0)
    return resized.crop((left, top, left + side, top + side))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("side", "resize"), [(224, 256), (32, 36), (64, 64)])
def test_evaluation_is_the_standard_one(size: tuple[int, int], side: int, resize: int) -> None:
    picture = photo(*size)
    ours = np.asarray(evaluation_view(picture, side, resize), dtype=int)
    theirs = np.asarray(standard_evaluation(picture, side, resize), dtype=int)
    assert ours.shape == (side, side, 3)
    difference = np.abs(ours - theirs)
    assert difference.max() <= 1  # exact halves round either way
    assert difference.mean() < 0.3


@pytest.mark.parametrize("size", SIZES)
def test_random_crops_keep_to_area_and_aspect(size: tuple[int, int]) -> None:
    width, height = size
    rng = np.random.default_rng(1)
    boxes = [_random_box(width, height, rng) for _ in range(300)]
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
    wide = np.array([right - left for left, _, right, _ in boxes])
    high = np.array([bottom - top for _, top, _, bottom in boxes])
    assert (wide / high > 0.7).all()
    assert (wide / high < 1.45).all()
    shares = wide * high / (width * height)
    assert shares.min() < 0.3
    assert (shares > 0.06).all()


def test_an_image_too_narrow_for_any_crop_gives_its_centre() -> None:
    rng = np.random.default_rng(2)
    assert _random_box(1, 100, rng) == (0, 49, 1, 50)
    assert _random_box(1000, 10, rng) in {(493, 0, 506, 10), (494, 0, 507, 10)}


def test_training_mirrors_half_of_the_images_and_repeats_by_seed() -> None:
    ramp = Image.fromarray(np.tile(np.arange(64, dtype=np.uint8)[None, :, None] * 4, (64, 1, 3)))
    rising = 0
    for seed in range(200):
        view = np.asarray(training_view(ramp, 16, 0.0, np.random.default_rng(seed)), dtype=int)
        again = np.asarray(training_view(ramp, 16, 0.0, np.random.default_rng(seed)), dtype=int)
        np.testing.assert_array_equal(view, again)
        rising += view[0, -1, 0] > view[0, 0, 0]
    assert 70 < rising < 130


def test_jitter_changes_colours_within_its_reach() -> None:
    grey = Image.new("RGB", (20, 20), (100, 100, 100))
    means = []
    for seed in range(100):
        view = np.asarray(training_view(grey, 8, 0.4, np.random.default_rng(seed)), dtype=float)
        means.append(view.mean())
        assert view.std() < 1
    assert min(means) >= 100 * 0.6 - 2
    assert max(means) <= 100 * 1.4 + 2
    assert np.std(means) > 10
    plain = np.asarray(training_view(grey, 8, 0.0, np.random.default_rng(0)))
    assert (plain == 100).all()
