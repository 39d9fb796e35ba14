"""A small data set in COCO's format on disk."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
WIDTH, HEIGHT = 40, 30


def content(count: int) -> dict[str, Any]:
    """`count` images, the i-th with one box at (i, i) and every other with a second one."""
    annotations = []
    for image in range(count):
        boxes = [[image, image, 10, 12]] + ([[20, 4, 15.5, 20]] if image % 2 else [])
        for category, box in zip((3, 7), boxes, strict=False):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 100 + image,
                    "category_id": category,
                    "bbox": box,
                    "iscrowd": 0,
                }
            )
    images = [
        {"id": 100 + i, "file_name": f"{i:03}.png", "width": WIDTH, "height": HEIGHT}
        for i in range(count)
    ]
    return {"images": images, "annotations": annotations, "categories": copy.copy(CATEGORIES)}


def write_coco(folder: Path, counts: dict[str, int] | None = None) -> Path:
    """Parts by name with their number of images, every image unlike the others."""
    for seed, (part, count) in enumerate((counts or {"train2017": 20, "val2017": 6}).items()):
        write_annotations(folder, part, content(count))
        images = folder / "images" / part
        images.mkdir(parents=True)
        rng = np.random.default_rng(seed)
        for number in range(count):
            pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(images / f"{number:03}.png")
    return folder


def write_annotations(folder: Path, part: str, data: dict[str, Any]) -> Path:
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    path = folder / "annotations" / f"instances_{part}.json"
    path.write_text(json.dumps(data))
    return path
