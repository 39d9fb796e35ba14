from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mpqdeploy.core import DataError
from mpqdeploy.data import DataSpec, load_dataset
from tests.data.coco_files import HEIGHT, WIDTH, content, write_annotations, write_coco

BCCD = Path(__file__).resolve().parents[3] / "shared" / "data" / "bccd"


def spec_of(folder: Path, size: int = 64) -> DataSpec:
    return DataSpec(name="coco", dir=folder, size=size, workers=0)


def test_boxes_are_where_the_file_says(tmp_path: Path) -> None:
    dataset = load_dataset(spec_of(write_coco(tmp_path), size=80))
    assert dataset.classes == ("cat", "dog")
    pixels, targets = dataset.examples("test", np.array([1]))
    scale, top = 80 / WIDTH, (80 - HEIGHT * 80 / WIDTH) / 2
    first, second = targets[0]
    assert first[:4].tolist() == [1 * scale, 1 * scale + top, 11 * scale, 13 * scale + top]
    assert second[:4].tolist() == [20 * scale, 4 * scale + top, 35.5 * scale, 24 * scale + top]
    assert (first[4], second[4]) == (0, 1)
    source = np.asarray(Image.open(tmp_path / "images" / "val2017" / "001.png"))
    shown = pixels[0, :, int(top) : 80 - int(top)].mean((1, 2))
    np.testing.assert_allclose(shown, source.mean((0, 1)), atol=2)


def test_a_val_file_beside_a_test_file_is_the_val_split(tmp_path: Path) -> None:
    dataset = load_dataset(spec_of(write_coco(tmp_path, {"train": 10, "val": 5, "test": 4})))
    assert [dataset.size(split) for split in ("train", "search", "val", "test")] == [8, 2, 5, 4]


def test_images_may_lie_in_one_folder(tmp_path: Path) -> None:
    write_coco(tmp_path)
    for image in (tmp_path / "images" / "val2017").iterdir():
        image.rename(tmp_path / "images" / f"val_{image.name}")
    data = content(6)
    for entry in data["images"]:
        entry["file_name"] = f"val_{entry['file_name']}"
    write_annotations(tmp_path, "val2017", data)
    assert load_dataset(spec_of(tmp_path)).size("test") == 6


def test_what_is_put_right_is_counted_and_named(tmp_path: Path) -> None:
    write_coco(tmp_path)
    data = content(20)
    data["annotations"][3]["bbox"] = [30, 20, 50, 50]
    data["annotations"][4]["bbox"] = [3, 3, 0, 10]
    data["annotations"][6]["bbox"] = [-4, 2, 8, 8]
    data["annotations"] = [one for one in data["annotations"] if one["category_id"] == 3]
    write_annotations(tmp_path, "train2017", data)
    notes = load_dataset(spec_of(tmp_path)).notes
    assert any("1 boxes have no area" in note and "annotation" in note for note in notes)
    assert any("boxes reach over the image" in note and "train2017" in note for note in notes)
    assert any("1 of 2 classes have no box to train on: dog" in note for note in notes)


def _box(box: Any) -> Callable[[dict[str, Any]], None]:
    def spoil(data: dict[str, Any]) -> None:
        data["annotations"][2]["bbox"] = box

    return spoil


def _key(section: str, index: int, key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def spoil(data: dict[str, Any]) -> None:
        data[section][index][key] = value

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_box([100, 5, 10, 10]), r"val2017.json: annotation 3: its box .* outside the image"),
        (_box([5, 5, -2, 10]), "annotation 3: its box .* outside the image"),
        (_box([5, 5, float("nan"), 10]), "annotation 3: its bbox"),
        (_box([5, 5, 10]), "annotation 3: its bbox"),
        (_key("annotations", 2, "category_id", 9), "annotation 3 is of category 9"),
        (_key("annotations", 2, "image_id", 9), "annotation 3 is of image 9"),
        (_key("images", 1, "id", 100), "two images of id 100"),
        (_key("images", 1, "file_name", "gone.png"), r"no file for its image gone.png"),
        (_key("categories", 0, "name", "cow"), "categories are not those of"),
        (lambda data: data.pop("annotations"), "no list 'annotations'"),
        (lambda data: data["annotations"][0].pop("bbox"), "has no 'bbox'"),
        (lambda data: data["images"].clear(), "no image or no category|is of image"),
    ],
)
def test_errors_name_the_file_and_the_annotation(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], object], message: str
) -> None:
    write_coco(tmp_path)
    data = content(6)
    spoil(data)
    write_annotations(tmp_path, "val2017", data)
    with pytest.raises(DataError, match=message):
        load_dataset(spec_of(tmp_path))


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.dir is not set"):
        load_dataset(DataSpec(name="coco"))
    with pytest.raises(DataError, match=r"no instances_train\*\.json"):
        load_dataset(spec_of(tmp_path))
    write_coco(tmp_path)
    write_annotations(tmp_path, "train2014", content(2))
    with pytest.raises(DataError, match="both of train"):
        load_dataset(spec_of(tmp_path))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    write_coco(tmp_path)
    image = tmp_path / "images" / "val2017" / "002.png"
    Image.new("RGB", (5, 5)).save(image)
    dataset = load_dataset(spec_of(tmp_path))
    with pytest.raises(DataError, match=r"002\.png: the image has 5 x 5 pixels"):
        dataset.examples("test", np.array([2]))
    image.write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"002\.png: cannot be decoded"):
        dataset.examples("test", np.array([2]))
    (tmp_path / "annotations" / "instances_val2017.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read as JSON"):
        load_dataset(spec_of(tmp_path))


@pytest.mark.skipif(not BCCD.is_dir(), reason="../shared/data/bccd is not there")
def test_bccd() -> None:
    dataset = load_dataset(spec_of(BCCD, size=128))
    assert dataset.classes == ("RBC", "WBC", "Platelets")
    counts = [dataset.size(split) for split in ("fit", "val", "test")]
    assert counts == [205, 87, 72]
    _, targets = dataset.examples("test", np.arange(72))
    assert (targets[..., 4] >= 0).any(1).all()
