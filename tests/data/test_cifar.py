from __future__ import annotations

import lzma
from pathlib import Path

import numpy as np
import pytest

from mpqdeploy.core import DataError
from mpqdeploy.data import DataSpec, load_dataset
from tests.data.files import (
    CIFAR10_FILES,
    cifar10_rows,
    write_archive,
    write_cifar10,
    write_cifar100,
)

SHARED = Path(__file__).parents[3] / "shared" / "data"


def _spec(folder: Path, name: str = "cifar10") -> DataSpec:
    return DataSpec(name=name, dir=folder)


def test_rows_are_read_as_the_official_layout_says(tmp_path: Path) -> None:
    dataset = load_dataset(_spec(write_cifar10(tmp_path)))
    rows = cifar10_rows(40, seed=5)
    np.testing.assert_array_equal(dataset.labels("test"), rows[:, 0])
    pixels = dataset.read("test", np.arange(40))
    np.testing.assert_array_equal(pixels, rows[:, 1:].reshape(-1, 3, 32, 32))


def test_plain_xz_and_archive_read_alike(tmp_path: Path) -> None:
    write_cifar10(tmp_path / "plain")
    write_cifar10(tmp_path / "xz", xz=True)
    members = {
        f"cifar-10-batches-bin/{name}": (tmp_path / "plain" / name).read_bytes()
        for name in CIFAR10_FILES
    }
    write_archive(tmp_path / "tar" / "cifar-10-binary.tar.gz", members)
    read = [load_dataset(_spec(tmp_path / kind)) for kind in ("plain", "xz", "tar", "tar")]
    rows = np.arange(read[0].size("fit"))
    for dataset in read[1:]:
        np.testing.assert_array_equal(dataset.read("fit", rows), read[0].read("fit", rows))
    unpacked = {path.name for path in (tmp_path / "tar").iterdir()}
    assert unpacked == {"cifar-10-binary.tar.gz", "cifar-10-batches-bin"}


def test_cifar100_takes_the_fine_label(tmp_path: Path) -> None:
    dataset = load_dataset(_spec(write_cifar100(tmp_path), "cifar100"))
    np.testing.assert_array_equal(dataset.labels("test"), np.arange(1000) % 100)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    (tmp_path / "data_batch_3.bin").unlink()
    with pytest.raises(DataError, match=r"data_batch_3\.bin: there is no such file"):
        load_dataset(_spec(tmp_path))


def test_no_folder_given_or_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.dir is not set"):
        load_dataset(DataSpec(name="cifar10"))
    with pytest.raises(DataError, match="no such folder"):
        load_dataset(_spec(tmp_path / "nowhere"))


def test_a_truncated_plain_file_is_named_at_once(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    path = tmp_path / "data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"data_batch_2\.bin: .*rows of 3073 bytes"):
        load_dataset(_spec(tmp_path))


@pytest.mark.parametrize("damage", ["cut", "noise", "short row"])
def test_a_damaged_xz_is_named_when_read(tmp_path: Path, damage: str) -> None:
    write_cifar10(tmp_path, xz=True)
    path = tmp_path / "test_batch.bin.xz"
    data = path.read_bytes()
    replaced = {
        "cut": data[: len(data) // 2],
        "noise": b"not xz at all" * 10,
        "short row": lzma.compress(lzma.decompress(data)[:-7]),
    }
    path.write_bytes(replaced[damage])
    dataset = load_dataset(_spec(tmp_path))
    with pytest.raises(DataError, match=r"test_batch\.bin\.xz"):
        dataset.size("test")


def test_a_label_out_of_range_is_another_data_set(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    rows = cifar10_rows(40)
    rows[7, 0] = 77
    (tmp_path / "test_batch.bin").write_bytes(rows.tobytes())
    with pytest.raises(DataError, match="label 77 is out of range"):
        load_dataset(_spec(tmp_path)).labels("test")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real CIFAR-10 files are not here")
def test_the_real_test_set() -> None:
    dataset = load_dataset(_spec(SHARED / "cifar-10-batches-bin"))
    assert dataset.classes[0] == "airplane"
    assert dataset.size("test") == 10_000
    assert set(np.bincount(dataset.labels("test"))) == {1000}
    pixels = dataset.read("test", np.arange(2000))
    images = dataset.preprocessing.apply(pixels)
    assert abs(float(images.mean())) < 0.05
    assert abs(float(images.std()) - 1) < 0.05
