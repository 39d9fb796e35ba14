"""Detection data in COCO's format: `annotations/instances_*.json` and a folder of images.

https://cocodataset.org/#format-data: `images` (id, file_name, width, height), `annotations` (id,
image_id, category_id, bbox = [left, top, width, height], iscrowd), `categories` (id, name).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from mpqdeploy.core import DataError
from mpqdeploy.data.dataset import Pixels
from mpqdeploy.data.detection import Annotated, DetectionDataset, Part
from mpqdeploy.data.pictures import decoded
from mpqdeploy.data.spec import DataSpec
from mpqdeploy.data.workers import spare_cores

_ANNOTATIONS = "annotations"
_STEM = "instances_"
_MUCH = 0.5  # pixels that a box may reach over its image without a word
_KEYS = {
    "images": ("id", "file_name", "width", "height"),
    "annotations": ("id", "image_id", "category_id", "bbox"),
    "categories": ("id", "name"),
}


def load_coco(spec: DataSpec) -> DetectionDataset:
    """Training images from `instances_train*.json`; test images from `instances_test*.json`, or
    from `instances_val*.json` where there is none. Where both are there, val is the val split.

    Images are looked for in `images/`, the folder itself, and a folder named after the file's part
    (`train2017`) in both. Raises `DataError` that names the file and the annotation.
    """
    if spec.dir is None:
        raise DataError(
            "data.dir is not set: coco is read from a local folder.",
            hint=f"Set data.dir to the folder with {_ANNOTATIONS}/{_STEM}train*.json.",
        )
    files = _files(spec.dir)
    read = {part: _File.read(path, spec.dir) for part, path in files.items()}
    names = read["train"].categories
    for one in read.values():
        if one.categories != names:
            raise DataError(
                f"{one.path}: its categories are not those of {read['train'].path}.",
                hint="All parts need the same categories, with the same ids.",
            )
    return DetectionDataset(
        spec=spec,
        classes=tuple(names.values()),
        parts={part: one.images() for part, one in read.items()},
        notes=tuple(note for one in read.values() for note in one.notes()),
        workers=spare_cores() if spec.workers is None else spec.workers,
    )


def _files(folder: Path) -> dict[Part, Path]:
    """The annotation file of every part."""
    found: dict[str, list[Path]] = {
        part: sorted((folder / _ANNOTATIONS).glob(f"{_STEM}{part}*.json"))
        for part in ("train", "val", "test")
    }
    for part, paths in found.items():
        if len(paths) > 1:
            raise DataError(
                f"{paths[0].parent}: {paths[0].name} and {paths[1].name} are both of {part}.",
                hint="Leave one of them.",
            )
    held_out = found["test"] or found["val"]
    if not found["train"] or not held_out:
        missing = f"{_STEM}val*.json" if found["train"] else f"{_STEM}train*.json"
        raise DataError(
            f"{folder / _ANNOTATIONS}: there is no {missing}.",
            hint="COCO's format: annotations/instances_train*.json and instances_val*.json.",
        )
    files: dict[Part, Path] = {"train": found["train"][0], "test": held_out[0]}
    if found["test"] and found["val"]:
        files["val"] = found["val"][0]
    return files


@dataclass
class _Counted:
    """Something that is put right and told once: how often, and where first."""

    what: str
    count: int = 0
    first: str = ""

    def add(self, where: str) -> None:
        self.first = self.first or where
        self.count += 1


@dataclass
class _File:
    """One annotation file. `categories` are names by id, in order of id."""

    path: Path
    folder: Path
    content: Mapping[str, Any]
    categories: dict[int, str]
    clipped: _Counted = field(default_factory=lambda: _Counted("reach over the image: cut"))
    empty: _Counted = field(default_factory=lambda: _Counted("have no area: left out"))

    @classmethod
    def read(cls, path: Path, folder: Path) -> _File:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(
                f"{path}: cannot be read as JSON ({error}).", hint="Fetch the file again."
            ) from error
        _check(content, path)
        categories = {int(c["id"]): str(c["name"]) for c in content["categories"]}
        return cls(path, folder, content, dict(sorted(categories.items())))

    def images(self) -> list[Annotated]:
        """Every image of the file, in its order, with the boxes that lie on it."""
        entries: dict[int, Mapping[str, Any]] = {}
        for entry in self.content["images"]:
            if entry["id"] in entries:
                raise DataError(f"{self.path}: there are two images of id {entry['id']}.")
            entries[entry["id"]] = entry
        boxes: dict[int, list[tuple[float, ...]]] = {key: [] for key in entries}
        index = {category: number for number, category in enumerate(self.categories)}
        for annotation in self.content["annotations"]:
            where = f"{self.path}: annotation {annotation['id']}"
            if annotation["image_id"] not in entries:
                raise DataError(
                    f"{where} is of image {annotation['image_id']}, which is not there.",
                    hint="Remove the annotation, or add the image.",
                )
            if annotation["category_id"] not in index:
                raise DataError(
                    f"{where} is of category {annotation['category_id']}, which is not there.",
                    hint=f"The file's categories: {', '.join(map(str, index))}.",
                )
            box = self._box(annotation, entries[annotation["image_id"]], where)
            if box is not None:
                label = float(index[annotation["category_id"]])
                crowd = float(annotation.get("iscrowd", 0))
                boxes[annotation["image_id"]].append((*box, label, crowd))
        return [self._annotated(entry, boxes[key]) for key, entry in entries.items()]

    def notes(self) -> list[str]:
        """A line for everything that was put right."""
        return [
            f"{self.path.name}: {one.count} boxes {one.what}; the first is {one.first}"
            for one in (self.clipped, self.empty)
            if one.count
        ]

    def _box(
        self, annotation: Mapping[str, Any], image: Mapping[str, Any], where: str
    ) -> tuple[float, ...] | None:
        """The part of a box that lies on its image; None for one without area."""
        given = annotation["bbox"]
        numbers = isinstance(given, list) and len(given) == 4
        if not numbers or not all(isinstance(v, int | float) and math.isfinite(v) for v in given):
            raise DataError(
                f"{where}: its bbox {given} is not four numbers.",
                hint="COCO's boxes are [left, top, width, height] in pixels.",
            )
        left, top, width, height = (float(value) for value in given)
        outside = left >= image["width"] or top >= image["height"]
        if width < 0 or height < 0 or outside or left + width < 0 or top + height < 0:
            raise DataError(
                f"{where}: its box {given} lies outside the image {image['file_name']} of"
                f" {image['width']} x {image['height']} pixels.",
                hint="COCO's boxes are [left, top, width, height] in pixels.",
            )
        # In plain numbers: COCO has a million boxes, and arrays of four take seconds of each.
        whole = (left, top, left + width, top + height)
        bounds = (image["width"], image["height"]) * 2
        box = tuple(min(max(at, 0.0), float(end)) for at, end in zip(whole, bounds, strict=True))
        name = f"annotation {annotation['id']}"
        if box[2] <= box[0] or box[3] <= box[1]:
            self.empty.add(name)
            return None
        # YOLO's six decimals come back as hundredths of a pixel.
        if any(abs(a - b) > _MUCH for a, b in zip(box, whole, strict=True)):
            self.clipped.add(name)
        return box

    def _annotated(self, entry: Mapping[str, Any], rows: list[tuple[float, ...]]) -> Annotated:
        table = np.array(rows, np.float32).reshape(-1, 6)
        path = self._locate(str(entry["file_name"]))
        return Annotated(
            boxes=table[:, :4],
            labels=table[:, 4].astype(np.int64),
            crowd=table[:, 5] > 0,
            pixels=partial(_pixels, path, int(entry["width"]), int(entry["height"])),
        )

    @cached_property
    def _places(self) -> tuple[Path, ...]:
        """Folders in which its images may lie."""
        own = self.path.stem.removeprefix(_STEM)
        folders = (self.folder / "images", self.folder)
        return tuple(place for folder in folders for place in (folder / own, folder))

    def _locate(self, name: str) -> Path:
        found = (place / name for place in self._places)
        path = next((path for path in found if path.is_file()), None)
        if path is None:
            raise DataError(
                f"{self.path}: there is no file for its image {name}.",
                hint=f"Looked for it in {', '.join(str(place) for place in self._places)}.",
            )
        return path


def _check(content: Any, path: Path) -> None:
    """Whether the keys that are read are there."""
    for section, keys in _KEYS.items():
        entries = content.get(section) if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise DataError(
                f"{path}: it has no list {section!r}.",
                hint="COCO's format has images, annotations and categories.",
            )
        for entry in entries:
            missing = [key for key in keys if not isinstance(entry, dict) or key not in entry]
            if missing:
                raise DataError(f"{path}: an entry of {section!r} has no {missing[0]!r}: {entry}.")
    if not content["images"] or not content["categories"]:
        raise DataError(f"{path}: it has no image or no category.", hint="Check the file.")


def _pixels(path: Path, width: int, height: int) -> Pixels:
    picture = decoded(path)
    if picture.size != (width, height):
        raise DataError(
            f"{path}: the image has {picture.size[0]} x {picture.size[1]} pixels, its annotations"
            f" are for {width} x {height}.",
            hint="Fetch the image again; boxes would be in the wrong place.",
        )
    return np.asarray(picture, dtype=np.uint8)
