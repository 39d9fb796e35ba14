from __future__ import annotations

import pytest
import torch

from mpqdeploy.core import ConfigError, DataError
from mpqdeploy.data import Dataset, DataSpec, Loader, load_dataset


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset(DataSpec(name="digits"))


def test_batches_cover_the_split_once(digits: Dataset) -> None:
    loader = Loader(digits, "test", batch_size=64)
    batches = list(loader)
    assert len(batches) == len(loader) == 8
    labels = torch.cat([labels for _, labels in batches])
    assert labels.tolist() == digits.labels("test").tolist()
    images = torch.cat([images for images, _ in batches])
    assert images.dtype == torch.float32
    assert images.shape == (450, 1, 8, 8)
    assert abs(float(images.mean())) < 0.1
    assert abs(float(images.std()) - 1) < 0.1


def test_an_epoch_is_the_same_whenever_it_is_asked_for(digits: Dataset) -> None:
    loader = Loader.training(digits, "train", batch_size=100, seed=3)
    once = list(loader.epoch(2))
    again = list(Loader.training(digits, "train", batch_size=100, seed=3).epoch(2))
    assert len(once) == len(loader) == 9
    for (images, labels), (images2, labels2) in zip(once, again, strict=True):
        assert torch.equal(images, images2)
        assert torch.equal(labels, labels2)


@pytest.mark.parametrize(("seed", "epoch"), [(3, 1), (4, 2)])
def test_another_epoch_or_seed_is_another_order(digits: Dataset, seed: int, epoch: int) -> None:
    first = next(Loader.training(digits, "train", batch_size=100, seed=3).epoch(2))
    other = next(Loader.training(digits, "train", batch_size=100, seed=seed).epoch(epoch))
    assert not torch.equal(first[1], other[1])


def test_a_split_below_one_batch_makes_one(digits: Dataset) -> None:
    small = load_dataset(DataSpec(name="digits", limit={"train": 20}))
    loader = Loader.training(small, "train", batch_size=128)
    assert len(loader) == 1
    assert len(next(loader.epoch(0))[1]) == 20


def test_unknown_names_and_limits() -> None:
    with pytest.raises(ConfigError, match="did you mean cifar10"):
        load_dataset(DataSpec(name="cifar-10"))
    with pytest.raises(ConfigError, match=r"data\.limit\.trian"):
        DataSpec(name="digits", limit={"trian": 5})
    with pytest.raises(ConfigError, match="leave no images"):
        DataSpec(name="digits", search_fraction=0.7, val_fraction=0.3)
    with pytest.raises(DataError, match="the search split is empty"):
        load_dataset(DataSpec(name="digits", search_fraction=0)).size("search")
