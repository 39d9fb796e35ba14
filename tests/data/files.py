"""Small data sets on disk, in the layouts that the readers expect."""

from __future__ import annotations

import io
import lzma
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

CIFAR10_FILES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")


def cifar10_rows(count: int, seed: int = 0) -> np.ndarray:
    """uint8 `[count, 3073]` with labels 0, 1, ..., 9 in turn."""
    rows = np.random.default_rng(seed).integers(0, 256, (count, 3073), dtype=np.uint8)
    rows[:, 0] = np.arange(count) % 10
    return rows


def write_cifar10(folder: Path, count: int = 40, *, xz: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(CIFAR10_FILES):
        data = cifar10_rows(count, seed).tobytes()
        if xz:
            (folder / f"{name}.xz").write_bytes(lzma.compress(data, preset=0))
        else:
            (folder / name).write_bytes(data)
    return folder


def write_cifar100(folder: Path, count: int = 1000) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(("train.bin", "test.bin")):
        rows = np.random.default_rng(seed).integers(0, 256, (count, 3074), dtype=np.uint8)
        rows[:, 0] = np.arange(count) % 20
        rows[:, 1] = np.arange(count) % 100
        (folder / name).write_bytes(rows.tobytes())
    return folder


def write_archive(
    path: Path, members: dict[str, bytes], links: dict[str, str] | None = None
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type = tarfile.SYMTYPE
            info.linkname = target
            archive.addfile(info)


def write_image_folder(folder: Path, *, classes: int = 3, count: int = 12) -> Path:
    """Images of several sizes and modes, one colour per class."""
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for label in range(classes):
            place = folder / part / f"class{label}"
            place.mkdir(parents=True)
            for number in range(count):
                shape = (20 + int(rng.integers(0, 30)), 20 + int(rng.integers(0, 30)), 3)
                pixels = rng.integers(0, 60, shape, dtype=np.uint8)
                pixels[..., label % 3] += 180
                picture = Image.fromarray(pixels)
                if number == 0:
                    picture = picture.convert("L")
                picture.save(place / f"{number:03}.png")
    return folder
