"""ImageNet's transforms on Pillow images, as everybody trains with them [F].

The crops are those of torchvision's `RandomResizedCrop`, `Resize` and `CenterCrop` up to rounding,
so that published weights keep their published accuracy.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageEnhance

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels of the image."""

_AREA = (0.08, 1.0)
_RATIO = (3 / 4, 4 / 3)
_ATTEMPTS = 10
_BILINEAR = Image.Resampling.BILINEAR
_ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)


def evaluation_view(picture: Image.Image, side: int, resize: int) -> Image.Image:
    """The shorter side resized to `resize`, then the central square of `side` pixels."""
    width, height = picture.size
    short = min(width, height)
    wide, high = resize * width // short, resize * height // short
    left, top = round((wide - side) / 2), round((high - side) / 2)
    # The same pixels, without computing those that the crop cuts away.
    x, y = width / wide, height / high
    box = (left * x, top * y, (left + side) * x, (top + side) * y)
    return picture.resize((side, side), _BILINEAR, box=box)


def training_view(
    picture: Image.Image, side: int, jitter: float, rng: np.random.Generator
) -> Image.Image:
    """A random crop resized to a square, mirrored half of the time, its colours varied.

    `jitter`: brightness, contrast and saturation are scaled by up to 1 - jitter and 1 + jitter.
    """
    view = picture.crop(_random_box(*picture.size, rng)).resize((side, side), _BILINEAR)
    if rng.random() < 0.5:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return _jittered(view, jitter, rng) if jitter else view


def _random_box(width: int, height: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Area 8% to 100% of the image, aspect ratio 3/4 to 4/3; the central one if none fits."""
    for _ in range(_ATTEMPTS):
        area = width * height * rng.uniform(*_AREA)
        ratio = math.exp(rng.uniform(math.log(_RATIO[0]), math.log(_RATIO[1])))
        wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < high <= height:
            left = int(rng.integers(0, width - wide + 1))
            top = int(rng.integers(0, height - high + 1))
            return left, top, left + wide, top + high
    ratio = min(max(width / height, _RATIO[0]), _RATIO[1])
    wide = min(width, max(1, round(height * ratio)))
    high = min(height, max(1, round(width / ratio)))
    left, top = (width - wide) // 2, (height - high) // 2
    return left, top, left + wide, top + high


def _jittered(picture: Image.Image, jitter: float, rng: np.random.Generator) -> Image.Image:
    factors = rng.uniform(max(0.0, 1 - jitter), 1 + jitter, size=len(_ENHANCERS))
    for index in rng.permutation(len(_ENHANCERS)):
        picture = _ENHANCERS[index](picture).enhance(float(factors[index]))
    return picture
