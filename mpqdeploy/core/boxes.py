"""Boxes in numpy: areas, overlap, encoding against anchors, non-maximum suppression.

A box is (left, top, right, bottom) in pixels, right and bottom exclusive; arrays are `[N, 4]`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float32]

LARGEST_GROWTH = math.log(1000 / 16)
"""Bound of a predicted log-size: an untrained network must not overflow exp [F]."""


def area(boxes: Boxes) -> NDArray[np.float32]:
    """`[N]`, 0 for a box without extent."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return np.asarray(sides[:, 0] * sides[:, 1], np.float32)


def iou(first: Boxes, second: Boxes) -> NDArray[np.float32]:
    """Intersection over union of every pair, `[N, M]`; 0 where both are empty."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    sides = np.maximum(high - low, 0)
    shared = sides[..., 0] * sides[..., 1]
    union = area(first)[:, None] + area(second)[None] - shared
    return np.asarray(shared / np.maximum(union, np.finfo(np.float32).tiny), np.float32)


def clip(boxes: Boxes, height: float, width: float) -> Boxes:
    """The parts of boxes that lie on an image."""
    bounds = np.array([width, height, width, height], np.float32)
    return np.asarray(np.clip(boxes, 0, bounds), np.float32)


def decode(deltas: NDArray[np.float32], anchors: Boxes) -> Boxes:
    """Boxes from (dx, dy, dw, dh) `[N, 4]` relative to their anchors `[N, 4]`.

    The centre moves by (dx, dy) anchor sides, the sides grow by exp(dw), exp(dh): the
    parametrization of R-CNN that RetinaNet keeps (Lin et al. 2017, arXiv 1708.02002, section 4).
    """
    sides = anchors[:, 2:] - anchors[:, :2]
    centres = anchors[:, :2] + sides / 2 + deltas[:, :2] * sides
    half = sides * np.exp(np.minimum(deltas[:, 2:], LARGEST_GROWTH)) / 2
    return np.asarray(np.concatenate([centres - half, centres + half], axis=1), np.float32)


def encode(boxes: Boxes, anchors: Boxes) -> NDArray[np.float32]:
    """The deltas `[N, 4]` that `decode` turns back into `boxes`; boxes have an extent."""
    sides = anchors[:, 2:] - anchors[:, :2]
    wanted = boxes[:, 2:] - boxes[:, :2]
    moved = (boxes[:, :2] + wanted / 2 - anchors[:, :2] - sides / 2) / sides
    return np.asarray(np.concatenate([moved, np.log(wanted / sides)], axis=1), np.float32)


def suppress(
    boxes: Boxes, scores: NDArray[np.float32], labels: NDArray[np.int64], threshold: float
) -> NDArray[np.int64]:
    """Greedy non-maximum suppression within each class: indices of the boxes that stay.

    In order of falling score, a box goes where it overlaps a better one of its class by more than
    `threshold` IoU. Classes are kept apart by moving each onto a plane of its own.
    """
    if not len(boxes):
        return np.zeros(0, np.int64)
    extent = float(boxes.max() - boxes.min()) + 1
    apart = np.asarray(boxes + (labels * extent)[:, None], np.float32)
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while order.size:
        best, order = int(order[0]), order[1:]
        kept.append(best)
        order = order[iou(apart[best : best + 1], apart[order])[0] <= threshold]
    return np.array(kept, np.int64)
