from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpqdeploy.core import ConfigError, DataError
from mpqdeploy.data import DataSpec, load_dataset
from mpqdeploy.data.augment import image_seeds
from mpqdeploy.data.pictures import decoded
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
    pixels = dataset.read("train", rows, image_seeds(0, 0, rows)).astype(float)
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


@pytest.mark.parametrize("form", ["jpeg", "png", "gif", "bmp", "tiff", "webp", "ppm"])
@pytest.mark.filterwarnings("ignore")  # Pillow says what it makes of the rest
def test_no_damage_gets_past_the_decoder_unnamed(tmp_path: Path, form: str) -> None:
    rng = np.random.default_rng(0)
    whole = tmp_path / "whole"
    Image.fromarray(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(whole, form)
    content = np.frombuffer(whole.read_bytes(), np.uint8)
    path = tmp_path / "damaged"
    for _ in range(40):
        damaged = content[: rng.integers(1, len(content) + 1)].copy()
        places = rng.integers(0, min(len(damaged), 200), size=rng.integers(1, 9))
        damaged[places] = rng.integers(0, 256, len(places))
        path.write_bytes(damaged.tobytes())
        with suppress(DataError):  # and nothing else
            assert decoded(path).mode == "RGB"


def test_names_need_not_be_text(folder: Path) -> None:
    place = folder / "train" / "class0"
    (place / "003.png").rename(place / os.fsdecode(b"\xff\xc3\xa9 (1).PNG"))
    dataset = load_dataset(_spec(folder))
    rows = np.arange(dataset.size("fit"))
    assert dataset.read("fit", rows).shape == (len(rows), 3, 16, 16)


def test_evaluation_may_cut_from_another_size(folder: Path) -> None:
    spec = DataSpec(name="imagefolder", dir=folder, size=16, resize=16, workers=0)
    near = load_dataset(spec).read("test", np.array([1]))
    far = load_dataset(_spec(folder)).read("test", np.array([1]))
    assert (near != far).any()
    with pytest.raises(ConfigError, match=r"data\.resize: a square of 16 pixels"):
        DataSpec(name="imagefolder", dir=folder, size=16, resize=15)
