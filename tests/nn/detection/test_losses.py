from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mpqdeploy.core import boxes as plain
from mpqdeploy.nn.detection.losses import decoded, encoded, focal, giou, smooth_l1
from tests.core.test_boxes import random_boxes


@given(st.floats(-20, 20), st.booleans())
def test_focal_loss_is_equation_5(logit: float, positive: bool) -> None:
    p = 1 / (1 + math.exp(-logit))
    p_t, alpha = (p, 0.25) if positive else (1 - p, 0.75)
    expected = -alpha * (1 - p_t) ** 2 * math.log(max(p_t, 1e-300))
    given_ = torch.tensor([logit], dtype=torch.float64), torch.tensor([float(positive)]).double()
    assert focal(*given_).item() == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_focal_loss_without_focus_is_cross_entropy() -> None:
    logits, targets = torch.randn(50), (torch.rand(50) > 0.5).float()
    halves = focal(logits, targets, alpha=0.5, gamma=0.0)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)
    assert halves.mean().item() == pytest.approx(expected.item() / 2, rel=1e-5)


def test_focal_loss_is_finite_at_extremes() -> None:
    logits = torch.tensor([-200.0, 200.0, -200.0, 200.0], requires_grad=True)
    loss = focal(logits, torch.tensor([0.0, 1.0, 1.0, 0.0])).sum()
    loss.backward()
    assert math.isfinite(loss.item())
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_gradients_by_finite_differences() -> None:
    torch.manual_seed(0)
    logits = torch.randn(6, dtype=torch.float64, requires_grad=True)
    targets = (torch.rand(6) > 0.5).double()
    assert torch.autograd.gradcheck(lambda x: focal(x, targets), (logits,))
    anchors = torch.from_numpy(random_boxes(0, 5)).double()
    wanted = torch.from_numpy(random_boxes(1, 5)).double()
    deltas = (torch.randn(5, 4, dtype=torch.float64) * 0.3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: giou(decoded(x, anchors), wanted), (deltas,))
    assert torch.autograd.gradcheck(lambda x: smooth_l1(x, encoded(wanted, anchors)), (deltas,))


@pytest.mark.parametrize("seed", range(5))
def test_coding_is_numpys(seed: int) -> None:
    boxes, anchors = random_boxes(seed, 6), random_boxes(seed + 9, 6)
    deltas = plain.encode(boxes, anchors)
    tensors = torch.from_numpy(boxes), torch.from_numpy(anchors)
    np.testing.assert_allclose(encoded(*tensors).numpy(), deltas, rtol=1e-5, atol=1e-6)
    found = decoded(torch.from_numpy(deltas), tensors[1])
    np.testing.assert_allclose(found.numpy(), plain.decode(deltas, anchors), rtol=1e-4, atol=1e-4)


def test_giou_by_hand() -> None:
    """Two unit squares a unit apart: union 2, hull 3, IoU 0."""
    a = torch.tensor([[0.0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 2, 1]])
    b = torch.tensor([[2.0, 0, 3, 1], [0, 0, 2, 2], [1, 0, 3, 1]])
    assert giou(a, b).tolist() == pytest.approx([1 + 1 / 3, 0, 1 - 1 / 3])
