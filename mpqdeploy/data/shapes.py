"""Coloured shapes on noise, drawn when they are read: detection data that needs no file."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.data.dataset import Pixels
from mpqdeploy.data.detection import Annotated, DetectionDataset, Part
from mpqdeploy.data.spec import DataSpec

CLASSES = ("disc", "square", "triangle")
SIDE = 96  # of the drawn images, before they are letterboxed
COUNTS: dict[Part, int] = {"train": 480, "test": 96}
_FIRST: dict[Part, int] = {"train": 0, "test": 1 << 20}
_MOST = 3
_SIDES = (16, 44)
_CONTRAST = 90


def load_shapes(spec: DataSpec) -> DetectionDataset:
    """Three classes, one to three objects per image; the same images on every run."""
    parts = {
        part: [_annotated(_FIRST[part] + index) for index in range(count)]
        for part, count in COUNTS.items()
    }
    return DetectionDataset(spec=spec, classes=CLASSES, parts=parts)


def _annotated(number: int) -> Annotated:
    boxes, labels = _layout(number)
    return Annotated(
        boxes=boxes,
        labels=labels,
        crowd=np.zeros(len(labels), bool),
        pixels=partial(_draw, number),
    )


def _layout(number: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Where the objects of an image are: boxes `[M, 4]` that do not touch, labels `[M]`."""
    rng = np.random.default_rng([number, 0])
    boxes: list[tuple[int, int, int, int]] = []
    wanted = int(rng.integers(1, _MOST + 1))
    while len(boxes) < wanted:
        side = int(rng.integers(*_SIDES))
        left, top = (int(start) for start in rng.integers(0, SIDE - side, 2))
        box = (left, top, left + side, top + side)
        if all(_apart(box, other) for other in boxes):
            boxes.append(box)
    return np.array(boxes, np.float32), rng.integers(0, len(CLASSES), wanted)


def _apart(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def _draw(number: int) -> Pixels:
    """The image, uint8 `[SIDE, SIDE, 3]`."""
    boxes, labels = _layout(number)
    rng = np.random.default_rng([number, 1])
    ground = rng.integers(60, 196, 3)
    canvas = ground + rng.normal(0, 20, (SIDE, SIDE, 3))
    for (left, top, right, bottom), label in zip(boxes.astype(int), labels, strict=True):
        colour = ground + _CONTRAST * rng.choice((-1, 1), 3) * rng.uniform(0.6, 1.0, 3)
        view = canvas[top:bottom, left:right]
        view[_mask(int(label), right - left)] = colour
    return np.asarray(np.clip(canvas, 0, 255), np.uint8)


def _mask(label: int, side: int) -> NDArray[np.bool_]:
    """Which pixels of its box a shape covers, `[side, side]`."""
    y, x = np.mgrid[0:side, 0:side] + 0.5
    if CLASSES[label] == "disc":
        mask: NDArray[np.bool_] = np.hypot(y - side / 2, x - side / 2) <= side / 2
    elif CLASSES[label] == "square":
        mask = np.ones((side, side), bool)
    else:
        mask = np.abs(x - side / 2) <= y / 2
    return mask
