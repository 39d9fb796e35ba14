"""The contract that every `Dataset` keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mpqdeploy.data import SPLITS, Dataset, DataSpec, load_dataset
from mpqdeploy.data.augment import image_seeds
from tests.data.files import write_cifar10, write_cifar100, write_image_folder


@pytest.fixture(scope="module", params=["digits", "cifar10", "cifar100", "imagefolder"])
def spec(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> DataSpec:
    folder: Path = tmp_path_factory.mktemp(request.param)
    writers = {
        "cifar10": write_cifar10,
        "cifar100": write_cifar100,
        "imagefolder": write_image_folder,
    }
    if request.param in writers:
        writers[request.param](folder)
    return DataSpec(name=request.param, dir=folder, size=16)


@pytest.fixture(scope="module")
def dataset(spec: DataSpec) -> Dataset:
    return load_dataset(spec)


def test_it_is_a_dataset(dataset: Dataset) -> None:
    assert isinstance(dataset, Dataset)
    channels, height, width = dataset.image
    assert channels in (1, 3)
    assert height == width
    assert len(dataset.preprocessing.mean) == channels


@pytest.mark.parametrize("split", SPLITS)
def test_pixels_and_labels_have_the_stated_shape(dataset: Dataset, split: str) -> None:
    labels = dataset.labels(split)
    assert labels.shape == (dataset.size(split),)
    assert labels.dtype == np.int64
    assert labels.min() >= 0
    assert labels.max() < len(dataset.classes)
    rows = np.array([0, dataset.size(split) - 1])
    pixels = dataset.read(split, rows)
    assert pixels.shape == (2, *dataset.image)
    assert pixels.dtype == np.uint8
    assert pixels.max() <= dataset.preprocessing.scale


def test_every_class_is_in_training_and_test(dataset: Dataset) -> None:
    for split in ("fit", "test"):
        assert set(dataset.labels(split)) == set(range(len(dataset.classes)))


def test_splits_are_disjoint_and_fit_is_train_and_search(dataset: Dataset) -> None:
    def images(split: str) -> set[bytes]:
        pixels = dataset.read(split, np.arange(dataset.size(split)))
        return {image.tobytes() for image in pixels}

    assert images("fit") == images("train") | images("search")
    assert dataset.size("fit") == dataset.size("train") + dataset.size("search")
    for first, second in (("train", "search"), ("fit", "val"), ("fit", "test"), ("val", "test")):
        assert not images(first) & images(second), (first, second)


def test_a_second_load_gives_the_same(spec: DataSpec, dataset: Dataset) -> None:
    again = load_dataset(spec)
    rows = np.arange(dataset.size("search"))
    np.testing.assert_array_equal(dataset.labels("search"), again.labels("search"))
    np.testing.assert_array_equal(dataset.read("search", rows), again.read("search", rows))


def test_augmentation_follows_each_images_own_seed(dataset: Dataset) -> None:
    rows = np.arange(min(32, dataset.size("train")))
    seeds = image_seeds(1, 0, rows)
    first = dataset.read("train", rows, seeds)
    part = dataset.read("train", rows[5:9], seeds[5:9])
    other = dataset.read("train", rows, image_seeds(2, 0, rows))
    np.testing.assert_array_equal(first[5:9], part)
    assert (first != other).any()
    assert (first != dataset.read("train", rows)).any()


def test_a_limit_caps_a_split_and_keeps_it_balanced(spec: DataSpec, dataset: Dataset) -> None:
    count = 2 * len(dataset.classes)
    limits = {"test": count, "search": 3}
    small = load_dataset(DataSpec(name=spec.name, dir=spec.dir, size=spec.size, limit=limits))
    assert small.size("test") == count
    assert set(np.bincount(small.labels("test"))) == {2}
    assert small.size("search") == 3
    assert small.size("train") == dataset.size("train")


def test_statistics_can_be_replaced(spec: DataSpec, dataset: Dataset) -> None:
    channels = dataset.image[0]
    given = DataSpec(
        name=spec.name, dir=spec.dir, size=spec.size, mean=(0.5,) * channels, std=(0.25,) * channels
    )
    preprocessing = load_dataset(given).preprocessing
    pixels = np.full((1, *dataset.image), int(preprocessing.scale), np.uint8)
    np.testing.assert_allclose(preprocessing.apply(pixels), 2.0, rtol=1e-6)
