from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mpqdeploy.core import ConfigError, DataError
from mpqdeploy.core.shard import Shard
from mpqdeploy.data import Dataset, DataSpec, Loader, load_dataset
from mpqdeploy.data.image_folder import ImageFolder
from mpqdeploy.data.workers import Batch, spare_cores
from tests.data.files import write_image_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image_folder(tmp_path_factory.mktemp("images"), count=14)


def photos(folder: Path, workers: int | None) -> Dataset:
    return load_dataset(DataSpec(name="imagefolder", dir=folder, size=16, workers=workers))


def same(first: Iterator[Batch], second: Iterator[Batch]) -> bool:
    pairs = list(zip(first, second, strict=True))
    return all(torch.equal(x, a) and torch.equal(y, b) for (x, y), (a, b) in pairs)


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_do_not_change_the_batches(folder: Path, workers: int) -> None:
    alone = Loader.training(photos(folder, 0), "fit", batch_size=6, seed=2)
    helped = Loader.training(photos(folder, workers), "fit", batch_size=6, seed=2)
    assert len(alone) > 3
    for epoch in (0, 5):  # any epoch, in any order: what resuming needs
        assert same(alone.epoch(epoch), helped.epoch(epoch))


def test_a_reader_that_stops_early_leaves_no_process(folder: Path) -> None:
    import multiprocessing

    batches = Loader.training(photos(folder, 2), "fit", batch_size=4).epoch(0)
    next(batches)
    assert multiprocessing.active_children()
    batches.close()  # type: ignore[attr-defined]
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_is_named_in_one_line(tmp_path: Path, workers: int) -> None:
    folder = write_image_folder(tmp_path, count=8)
    for number in range(8):
        (folder / "val" / "class1" / f"{number:03}.png").write_bytes(b"no picture")
    with pytest.raises(DataError) as caught:
        list(Loader(photos(folder, workers), "test", batch_size=4))
    assert "val/class1/00" in caught.value.message
    assert "cannot be decoded" in caught.value.message
    assert "\n" not in str(caught.value)
    assert caught.value.hint


class _Killed(ImageFolder):
    def examples(self, *arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_dies_is_an_error(folder: Path) -> None:
    spec = DataSpec(name="imagefolder", dir=folder, size=16, workers=1)
    with pytest.raises(DataError, match="a process that reads images died"):
        list(Loader(_Killed(spec), "test", batch_size=4))


def test_workers_are_shared_out_among_the_processes_of_a_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(32)))
    assert spare_cores() == 8
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert spare_cores() == 4
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "64")
    assert spare_cores() == 1


@pytest.mark.parametrize("name", ["digits", "imagefolder"])
def test_the_shards_of_every_batch_are_the_batch(folder: Path, name: str) -> None:
    data = load_dataset(DataSpec(name=name, dir=folder, size=16, workers=0))
    whole = Loader.training(data, "fit", batch_size=12, seed=7)
    parts = [
        Loader.training(data, "fit", batch_size=12, seed=7, shard=Shard(rank=rank, count=3))
        for rank in range(3)
    ]
    assert {len(part) for part in parts} == {len(whole)}
    for (images, labels), *shares in zip(
        whole.epoch(1), *(part.epoch(1) for part in parts), strict=True
    ):
        assert torch.equal(images, torch.cat([x for x, _ in shares]))
        assert torch.equal(labels, torch.cat([y for _, y in shares]))


def test_a_batch_that_cannot_be_shared_evenly_is_refused(folder: Path) -> None:
    loader = Loader.training(photos(folder, 0), "fit", batch_size=10, shard=Shard(rank=1, count=4))
    with pytest.raises(ConfigError, match="10 images cannot be cut into 4 equal parts"):
        next(loader.epoch(0))


def test_a_split_below_one_batch_is_cut_to_equal_parts(folder: Path) -> None:
    data = photos(folder, 0)
    size = data.size("fit")
    assert size % 4
    loaders = [
        Loader.training(data, "fit", batch_size=1000, shard=Shard(rank=rank, count=4))
        for rank in range(4)
    ]
    counts = [len(labels) for loader in loaders for _, labels in loader.epoch(0)]
    assert counts == [size // 4] * 4
    assert np.sum(counts) == size - size % 4
