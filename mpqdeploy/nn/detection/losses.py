"""Losses of a one-stage detector, per element: the caller sums and normalises."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mpqdeploy.core.boxes import LARGEST_GROWTH

Pairwise = Callable[[Tensor, Tensor], Tensor]

ALPHA, GAMMA = 0.25, 2.0  # the paper's best, Lin et al. 2017, table 1b
BETA = 0.1  # where smooth L1 turns linear [F]


def focal(logits: Tensor, targets: Tensor, *, alpha: float = ALPHA, gamma: float = GAMMA) -> Tensor:
    """FL(p_t) = -alpha_t (1 - p_t)^gamma log p_t, of the same shape as both arguments.

    Lin et al. 2017 (arXiv 1708.02002), equation 5; p_t = p where the target is 1, else 1 - p, and
    alpha_t likewise. log p_t comes out of the logits, so that it never overflows.
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    p = torch.sigmoid(logits)
    p_t = torch.lerp(1 - p, p, targets)
    alpha_t = torch.lerp(torch.full_like(p, 1 - alpha), torch.full_like(p, alpha), targets)
    return alpha_t * (1 - p_t) ** gamma * cross_entropy


def smooth_l1(found: Tensor, wanted: Tensor) -> Tensor:
    """|d| - beta / 2, or d² / (2 beta) where |d| < beta, summed over the last axis (Fast R-CNN)."""
    return F.smooth_l1_loss(found, wanted, beta=BETA, reduction="none").sum(-1)


def giou(found: Tensor, wanted: Tensor) -> Tensor:
    """1 - GIoU of boxes `[..., 4]` pair by pair (Rezatofighi et al. 2019, arXiv 1902.09630).

    GIoU = IoU - (|hull| - |union|) / |hull|, hull the least box around both.
    """
    tiny = torch.finfo(found.dtype).tiny
    shared = _area(_joined(found, wanted, torch.maximum, torch.minimum))
    hull = _area(_joined(found, wanted, torch.minimum, torch.maximum)).clamp_min(tiny)
    union = (_area(found) + _area(wanted) - shared).clamp_min(tiny)
    return 1 - shared / union + (hull - union) / hull


def decoded(deltas: Tensor, anchors: Tensor) -> Tensor:
    """`mpqdeploy.core.boxes.decode` on tensors `[..., 4]`."""
    sides = anchors[..., 2:] - anchors[..., :2]
    centres = anchors[..., :2] + sides / 2 + deltas[..., :2] * sides
    half = sides * deltas[..., 2:].clamp_max(LARGEST_GROWTH).exp() / 2
    return torch.cat([centres - half, centres + half], dim=-1)


def encoded(boxes: Tensor, anchors: Tensor) -> Tensor:
    """`mpqdeploy.core.boxes.encode` on tensors `[..., 4]`."""
    sides = anchors[..., 2:] - anchors[..., :2]
    wanted = boxes[..., 2:] - boxes[..., :2]
    moved = (boxes[..., :2] + wanted / 2 - anchors[..., :2] - sides / 2) / sides
    return torch.cat([moved, (wanted / sides).log()], dim=-1)


def _joined(first: Tensor, second: Tensor, low: Pairwise, high: Pairwise) -> Tensor:
    corners = low(first[..., :2], second[..., :2]), high(first[..., 2:], second[..., 2:])
    return torch.cat(corners, dim=-1)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).clamp_min(0).prod(-1)
