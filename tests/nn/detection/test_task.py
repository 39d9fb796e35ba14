from __future__ import annotations

import numpy as np
import pytest
import torch

from mpqdeploy.core import ConfigError, DataError
from mpqdeploy.core.boxes import iou
from mpqdeploy.core.detection import Anchors
from mpqdeploy.nn.detection import Detection
from tests.core.test_detection import outputs_for

PYRAMID = Anchors(image=(64, 96), strides=(8, 16, 32))
TRUTH = np.array([[8, 8, 40, 40], [50, 10, 90, 60]], np.float32)
TARGETS = torch.tensor([[[*TRUTH[0], 0, 0], [*TRUTH[1], 2, 0], [0, 0, 0, 0, -1, 0]]])


def outputs() -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(x) for x in outputs_for(PYRAMID, TRUTH, [0, 2], 3))


def test_names_of_outputs() -> None:
    names = Detection(anchors=PYRAMID).outputs
    assert names == ("class_p3", "class_p4", "class_p5", "box_p3", "box_p4", "box_p5")


@pytest.mark.parametrize("loss", ["smooth_l1", "giou"])
def test_right_outputs_are_right(loss: str) -> None:
    task = Detection(anchors=PYRAMID, box_loss=loss)
    good = task.judge(outputs(), TARGETS)
    assert good.right.item() > 0.9
    worse = task.judge(tuple(torch.zeros_like(o) for o in outputs()), TARGETS)
    assert good.loss.item() < worse.loss.item() / 3
    scorer = task.scorer()
    scorer.add(outputs(), TARGETS)
    assert scorer.score() == pytest.approx(1.0)


def test_the_loss_is_summed_over_anchors_and_divided_by_the_positive_ones() -> None:
    """All logits 0 and all deltas right: what is left is the focal loss of p = 1/2."""
    task = Detection(anchors=PYRAMID)
    flat = (*(torch.zeros_like(o) for o in outputs()[:3]), *outputs()[3:])
    overlaps = iou(PYRAMID.boxes, TRUTH)
    forced = (overlaps == overlaps.max(0)).any(1)
    positive = int((forced | (overlaps.max(1) >= 0.5)).sum())
    negative = int((~forced & (overlaps.max(1) < 0.4)).sum())
    half = 0.25 * np.log(2)
    expected = half * (0.25 * positive + 0.75 * (2 * positive + 3 * negative)) / positive
    assert task.judge(flat, TARGETS).loss.item() == pytest.approx(expected, rel=1e-4)


def test_an_image_without_objects_has_a_loss_and_a_gradient() -> None:
    given = tuple(o.clone().requires_grad_() for o in outputs())
    empty = torch.full((1, 1, 6), -1.0)
    loss = Detection(anchors=PYRAMID).judge(given, empty).loss
    loss.backward()
    assert loss.item() > 0
    assert given[0].grad is not None


def test_errors() -> None:
    task = Detection(anchors=PYRAMID)
    with pytest.raises(ConfigError, match="label_smoothing"):
        task.judge(outputs(), TARGETS, label_smoothing=0.1)
    with pytest.raises(ConfigError, match="'l2'"):
        Detection(anchors=PYRAMID, box_loss="l2")
    with pytest.raises(DataError, match="no images"):
        task.scorer().score()
