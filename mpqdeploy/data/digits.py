"""Handwritten digits, 8x8 grey, from scikit-learn: real images inside a dependency.

E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998: the 1797 images of
the test set, which scikit-learn ships.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from mpqdeploy.core.preprocessing import Preprocessing
from mpqdeploy.data.arrays import ArrayDataset, Pool
from mpqdeploy.data.augment import shift
from mpqdeploy.data.dataset import Pixels, Seeds
from mpqdeploy.data.spec import DataSpec
from mpqdeploy.data.splits import stratified

_TEST_FRACTION = 0.25
_TEST_SEED = 1998
"""Which images are the test set never depends on a user's choice."""


def load_digits(spec: DataSpec) -> ArrayDataset:
    """10 classes, image (1, 8, 8), pixel values 0..16."""
    return ArrayDataset(
        spec=spec,
        classes=tuple(str(digit) for digit in range(10)),
        image=(1, 8, 8),
        preprocessing=Preprocessing(scale=16.0, mean=(0.3053,), std=(0.3761,)),
        training=lambda: _pools()[0],
        held_out=lambda: _pools()[1],
        augmentation=_augment,
    )


@cache
def _pools() -> tuple[Pool, Pool]:
    from sklearn.datasets import load_digits as bundled

    source = bundled()
    pixels = source.images.astype(np.uint8)[:, None]
    labels = source.target.astype(np.int64)
    test, training = stratified(labels, (_TEST_FRACTION,), _TEST_SEED)
    return (pixels[training], labels[training]), (pixels[test], labels[test])


def _augment(pixels: Pixels, seeds: Seeds) -> Pixels:
    return shift(pixels, 1, seeds)
