"""CIFAR-10 and CIFAR-100 in the official binary layout (A. Krizhevsky, 2009).

A row is the label byte (CIFAR-100: coarse, then fine) and 3072 pixel bytes: planes R, G, B, 32x32.
Files may be plain or `.xz`; a file with fewer rows than the official one is a subset and fine.
"""

from __future__ import annotations

import lzma
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mpqdeploy.core import DataError
from mpqdeploy.core.preprocessing import Preprocessing
from mpqdeploy.data.archive import unpack
from mpqdeploy.data.arrays import ArrayDataset, Pool
from mpqdeploy.data.augment import flip, shift
from mpqdeploy.data.dataset import Pixels, Seeds
from mpqdeploy.data.spec import DataSpec

_PIXELS = 3 * 32 * 32
_MOST_ROWS = 50_000


@dataclass(frozen=True, kw_only=True)
class _Layout:
    archive: str
    folder: str
    training: tuple[str, ...]
    test: str
    label_bytes: int
    names: str
    classes: int
    preprocessing: Preprocessing

    @property
    def row(self) -> int:
        return self.label_bytes + _PIXELS

    @property
    def files(self) -> tuple[str, ...]:
        return (*self.training, self.test)


_CIFAR10 = _Layout(
    archive="cifar-10-binary.tar.gz",
    folder="cifar-10-batches-bin",
    training=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    test="test_batch.bin",
    label_bytes=1,
    names="batches.meta.txt",
    classes=10,
    preprocessing=Preprocessing(
        scale=255.0, mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616)
    ),
)
_CIFAR100 = _Layout(
    archive="cifar-100-binary.tar.gz",
    folder="cifar-100-binary",
    training=("train.bin",),
    test="test.bin",
    label_bytes=2,
    names="fine_label_names.txt",
    classes=100,
    preprocessing=Preprocessing(
        scale=255.0, mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762)
    ),
)
_LAYOUTS = {"cifar10": _CIFAR10, "cifar100": _CIFAR100}


def load_cifar(spec: DataSpec) -> ArrayDataset:
    """`spec.name` is "cifar10" or "cifar100"; image (3, 32, 32).

    Looks in `spec.dir` and in the official folder inside it, and unpacks an official archive that
    lies in `spec.dir`. Raises `DataError` that names the file, at once for a missing file or a
    plain one of a wrong size, and when first read for a damaged `.xz`.
    """
    layout = _LAYOUTS[spec.name]
    if spec.dir is None:
        raise DataError(
            f"data.dir is not set: {spec.name} is read from a local folder.",
            hint=f"Set data.dir to the folder with {layout.training[0]} or {layout.archive}.",
        )
    files = _locate(spec.dir, layout)
    training, test = files[:-1], files[-1]
    return ArrayDataset(
        spec=spec,
        classes=_class_names(test.parent / layout.names, layout.classes),
        image=(3, 32, 32),
        preprocessing=layout.preprocessing,
        training=lambda: _read_all(training, layout),
        held_out=lambda: _read_all([test], layout),
        augmentation=_augment,
    )


def _locate(directory: Path, layout: _Layout) -> list[Path]:
    if not directory.is_dir():
        raise DataError(
            f"{directory}: there is no such folder.",
            hint=f"Set data.dir to the folder with {layout.training[0]} or {layout.archive}.",
        )
    folders = [directory, directory / layout.folder]
    found = [_find(folders, name) for name in layout.files]
    archive = directory / layout.archive
    if None in found and archive.is_file():
        most = _MOST_ROWS * layout.row
        unpack(archive, layout.folder, layout.files, most, optional=[layout.names])
        found = [_find(folders, name) for name in layout.files]
    files = [path for path in found if path is not None]
    if len(files) < len(found):
        missing = layout.files[found.index(None)]
        raise DataError(
            f"{directory / missing}: there is no such file, nor {missing}.xz.",
            hint=f"Put the official binary files there, or {layout.archive}.",
        )
    for path in files:
        if path.suffix != ".xz":
            _check_rows(path, path.stat().st_size, layout)
    return files


def _find(folders: Sequence[Path], name: str) -> Path | None:
    candidates = (folder / file for folder in folders for file in (name, f"{name}.xz"))
    return next((path for path in candidates if path.is_file()), None)


def _read_all(paths: Sequence[Path], layout: _Layout) -> Pool:
    # lzma releases the interpreter's lock: the files decode side by side.
    with ThreadPoolExecutor(max_workers=len(paths)) as workers:
        rows = np.concatenate(list(workers.map(lambda path: _read(path, layout), paths)))
    labels = rows[:, layout.label_bytes - 1].astype(np.int64)
    pixels = np.ascontiguousarray(rows[:, layout.label_bytes :]).reshape(-1, 3, 32, 32)
    return pixels, labels


def _read(path: Path, layout: _Layout) -> Pixels:
    most = _MOST_ROWS * layout.row
    try:
        with lzma.open(path) if path.suffix == ".xz" else path.open("rb") as stream:
            data = stream.read(most + 1)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}).", hint="Fetch the file again."
        ) from error
    _check_rows(path, len(data), layout)
    rows = np.frombuffer(data, np.uint8).reshape(-1, layout.row)
    top = int(rows[:, layout.label_bytes - 1].max())
    if top >= layout.classes:
        raise DataError(
            f"{path}: label {top} is out of range, there are {layout.classes} classes.",
            hint=f"This is not a file of {layout.folder}; check data.name and data.dir.",
        )
    return rows


def _check_rows(path: Path, size: int, layout: _Layout) -> None:
    if size == 0 or size % layout.row or size > _MOST_ROWS * layout.row:
        raise DataError(
            f"{path}: {size} bytes are not 1 to {_MOST_ROWS} rows of {layout.row} bytes.",
            hint="The file is cut short or of another data set; fetch it again.",
        )


def _class_names(path: Path, count: int) -> tuple[str, ...]:
    if not path.is_file():
        return tuple(str(number) for number in range(count))
    lines = path.read_text(encoding="utf-8", errors="replace").split()
    return tuple(lines) if len(lines) == count else tuple(str(n) for n in range(count))


def _augment(pixels: Pixels, seeds: Seeds) -> Pixels:
    return flip(shift(pixels, 4, seeds), seeds)
