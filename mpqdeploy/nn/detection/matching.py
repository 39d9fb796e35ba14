"""Which anchor is responsible for which object (Lin et al. 2017, arXiv 1708.02002, section 4.1).

Targets are float32 `[N, M, 6]`: left, top, right, bottom in pixels of the network's image, class
index, and 1 for a crowd; rows of class -1 fill an image's boxes up to M.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

POSITIVE, NEGATIVE = 0.5, 0.4
"""An anchor of at least 0.5 IoU with an object is its; below 0.4 with all of them it is background;
in between it is left out of the loss."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Matches:
    """Per image and anchor, `[N, A]`: whether it has an object, which row of the targets that is,
    and whether it is background."""

    positive: Tensor
    row: Tensor
    negative: Tensor


def overlap(first: Tensor, second: Tensor) -> Tensor:
    """IoU of boxes `[..., P, 4]` with boxes `[..., Q, 4]`: `[..., P, Q]`; 0 for empty ones."""
    low = torch.maximum(first[..., :, None, :2], second[..., None, :, :2])
    high = torch.minimum(first[..., :, None, 2:], second[..., None, :, 2:])
    shared = (high - low).clamp_min(0).prod(-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).clamp_min(0).prod(-1) for boxes in (first, second)]
    union = areas[0][..., :, None] + areas[1][..., None, :] - shared
    return shared / union.clamp_min(torch.finfo(union.dtype).tiny)


@torch.no_grad()
def match(anchors: Tensor, targets: Tensor) -> Matches:
    """Match anchors `[A, 4]` with the targets `[N, M, 6]` of every image.

    An object also gets the anchors that overlap it most, however little that is, so that none goes
    without [F]. Anchors on a crowd are neither positive nor negative.
    """
    # One image at a time: at 640 pixels a batch's overlaps would take gigabytes.
    found = [_match(anchors, rows) for rows in targets]
    positive, row, negative = (torch.stack(part) for part in zip(*found, strict=True))
    return Matches(positive=positive, row=row, negative=negative)


def _match(anchors: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`Matches` of one image."""
    crowd = rows[:, 5] > 0
    overlaps = overlap(anchors, rows[:, :4])
    objects = overlaps.masked_fill((rows[:, 4] < 0) | crowd, -1.0)
    best, row = objects.max(dim=1)
    forced = (objects == objects.max(dim=0).values) & (objects > 0)
    has_forced = forced.any(dim=1)
    row = torch.where(has_forced, forced.to(torch.uint8).argmax(dim=1), row)
    positive = has_forced | (best >= POSITIVE)
    on_crowd = (overlaps.masked_fill(~crowd, -1.0) >= POSITIVE).any(dim=1)
    return positive, row, (best < NEGATIVE) & ~positive & ~on_crowd
