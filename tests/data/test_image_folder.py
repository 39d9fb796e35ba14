from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpqdeploy.core import DataError
from mpqdeploy.data import DataSpec, load_dataset
from tests.data.files import write_image_folder


def _spec(folder: Path) -> DataSpec:
    return DataSpec(name="imagefolder", dir=folder, size=16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_image_folder(tmp_path, count=6)


def test_classes_and_colours(folder: Path) -> None:
    dataset = load_dataset(_spec(folder))
    assert dataset.classes == ("class0", "class1", "class2")
    pixels = dataset.read("test", np.arange(dataset.size("test")))
    strongest = pixels.mean(axis=(2, 3)).argmax(axis=1)
    grey = np.arange(dataset.size("test")) % 6 == 0
    np.testing.assert_array_equal(strongest[~grey], dataset.labels("test")[~grey])


def test_the_centre_is_kept_in_evaluation(folder: Path) -> None:
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[:, 32:96] = 255
    Image.fromarray(pixels).save(folder / "val" / "class0" / "000.png")
    image = load_dataset(_spec(folder)).read("test", np.array([0]))
    assert image.min() == 255


def test_augmentation_keeps_the_colour_of_the_class(folder: Path) -> None:
    dataset = load_dataset(_spec(folder))
    rows = np.arange(dataset.size("train"))
    pixels = dataset.read("train", rows, np.random.default_rng(0)).astype(float)
    spread = pixels.mean(axis=(2, 3))
    coloured = spread.max(1) - spread.min(1) > 60
    assert coloured.sum() >= len(rows) - 3
    np.testing.assert_array_equal(spread.argmax(1)[coloured], dataset.labels("train")[coloured])


def test_a_class_without_images_is_named(folder: Path) -> None:
    for path in (folder / "val" / "class1").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"val/class1: the class has no images"):
        load_dataset(_spec(folder))


def test_a_class_in_one_part_only_is_named(folder: Path) -> None:
    (folder / "train" / "class9").mkdir()
    with pytest.raises(DataError, match="'class9' is in only one"):
        load_dataset(_spec(folder))


def test_no_train_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train: there is no such folder"):
        load_dataset(_spec(tmp_path))


def test_an_image_that_cannot_be_decoded_is_named(folder: Path) -> None:
    path = folder / "val" / "class2" / "003.png"
    path.write_bytes(path.read_bytes()[:80])
    dataset = load_dataset(_spec(folder))
    with pytest.raises(DataError, match=r"class2/003\.png: cannot be decoded"):
        dataset.read("test", np.arange(dataset.size("test")))
