"""The contract of data sets with boxes; `test_dataset` has that of data sets with labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mpqdeploy.core.boxes import clip
from mpqdeploy.core.letterbox import GREY
from mpqdeploy.data import SPLITS, Dataset, DataSpec, Loader, load_dataset
from mpqdeploy.data.augment import image_seeds
from mpqdeploy.data.detection import mirrored
from tests.data.coco_files import write_coco

SIZE = 64


@pytest.fixture(scope="module", params=["coco", "shapes"])
def spec(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> DataSpec:
    folder: Path = tmp_path_factory.mktemp(request.param)
    if request.param == "coco":
        write_coco(folder)
    limit = {"train": 12, "search": 4, "val": 3, "test": 6}
    return DataSpec(name=request.param, dir=folder, size=SIZE, limit=limit, workers=0)


@pytest.fixture(scope="module")
def dataset(spec: DataSpec) -> Dataset:
    return load_dataset(spec)


def rows_of(dataset: Dataset, split: str) -> np.ndarray:
    return np.arange(dataset.size(split))


@pytest.mark.parametrize("split", SPLITS)
def test_examples_have_the_stated_form(dataset: Dataset, split: str) -> None:
    assert isinstance(dataset, Dataset)
    pixels, targets = dataset.examples(split, rows_of(dataset, split))
    assert pixels.shape == (dataset.size(split), 3, SIZE, SIZE)
    assert pixels.dtype == np.uint8
    assert targets.dtype == np.float32
    assert targets.shape[::2] == (len(pixels), 6)
    objects = targets[targets[..., 4] >= 0]
    assert len(objects) >= len(pixels)
    assert set(objects[:, 4]) <= set(range(len(dataset.classes)))
    np.testing.assert_array_equal(objects[:, :4], clip(objects[:, :4], SIZE, SIZE))
    assert (objects[:, 2:4] > objects[:, :2]).all()


def test_splits_are_disjoint_and_fit_is_train_and_search(dataset: Dataset) -> None:
    def images(split: str) -> set[bytes]:
        pixels, _ = dataset.examples(split, rows_of(dataset, split))
        return {image.tobytes() for image in pixels}

    assert images("fit") == images("train") | images("search")
    for first, second in (("train", "search"), ("fit", "val"), ("fit", "test"), ("val", "test")):
        assert not images(first) & images(second), (first, second)


def test_augmentation_follows_each_images_own_seed(dataset: Dataset) -> None:
    rows = rows_of(dataset, "train")
    seeds = image_seeds(1, 0, rows)
    pixels, targets = dataset.examples("train", rows, seeds)
    part, own = dataset.examples("train", rows[3:5], seeds[3:5])
    np.testing.assert_array_equal(pixels[3:5], part)
    np.testing.assert_array_equal(targets[3:5, : own.shape[1]], own)
    assert (pixels != dataset.examples("train", rows)[0]).any()


def test_a_loader_gives_tensors(dataset: Dataset) -> None:
    images, targets = next(Loader.training(dataset, "fit", batch_size=4).epoch(0))
    assert images.shape == (4, 3, SIZE, SIZE)
    assert images.dtype == targets.dtype == torch.float32


def test_shapes_lie_in_their_boxes() -> None:
    """What differs from the noisy ground by much is inside a box, and fills much of it."""
    dataset = load_dataset(DataSpec(name="shapes", size=96))
    pixels, targets = dataset.examples("test", np.arange(20))
    assert not (pixels == GREY).all(1).any()
    for image, rows in zip(pixels.astype(float), targets, strict=True):
        ground = np.median(image.reshape(3, -1), axis=1)
        far = np.abs(image - ground[:, None, None]).max(0) > 70
        inside = np.zeros_like(far)
        for left, top, right, bottom, label, _ in rows.astype(int).tolist():
            if label >= 0:
                inside[top:bottom, left:right] = True
        assert far[~inside].mean() < 0.01


def test_mirrored_boxes_follow_the_image() -> None:
    boxes = np.array([[2, 3, 5, 9]], np.float32)
    canvas = np.zeros((10, 12))
    canvas[3:9, 2:5] = 1
    left, top, right, bottom = mirrored(boxes, 12)[0].astype(int)
    turned = canvas[:, ::-1]
    assert turned[top:bottom, left:right].all()
    assert turned.sum() == (right - left) * (bottom - top)
