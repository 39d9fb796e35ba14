from __future__ import annotations

import numpy as np
import pytest
import torch

from mpqdeploy.core.boxes import iou
from mpqdeploy.core.detection import Anchors
from mpqdeploy.nn.detection.matching import match, overlap
from tests.core.test_boxes import random_boxes

ANCHORS = Anchors(image=(64, 64), strides=(16, 32), size=2.0, octaves=2).boxes


def targets_of(boxes: np.ndarray, crowd: int = 0) -> torch.Tensor:
    """Labels by row; two rows of padding at the end."""
    rows = [[*box, label, crowd] for label, box in enumerate(boxes.tolist())]
    padding = [[0.0, 0, 0, 0, -1, 0]] * 2
    return torch.tensor([rows + padding], dtype=torch.float32)


def test_overlap_is_numpys() -> None:
    a, b = random_boxes(0, 5), random_boxes(1, 7)
    found = overlap(torch.from_numpy(a)[None], torch.from_numpy(b)[None])[0]
    np.testing.assert_allclose(found.numpy(), iou(a, b), rtol=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_matching_by_the_papers_words(seed: int) -> None:
    boxes = random_boxes(seed, 4, side=60)
    found = match(torch.from_numpy(ANCHORS), targets_of(boxes))
    overlaps = iou(ANCHORS, boxes)
    for anchor, row in enumerate(overlaps):
        forced = [j for j in range(4) if row[j] == overlaps[:, j].max()]
        positive = bool(forced) or row.max() >= 0.5
        assert bool(found.positive[0, anchor]) == positive
        if positive:
            assert int(found.row[0, anchor]) == (forced[0] if forced else row.argmax())
        assert bool(found.negative[0, anchor]) == (not positive and row.max() < 0.4)
    # No object goes without an anchor unless a better one needs it.
    assert found.positive.any()


def test_an_empty_image_is_all_background() -> None:
    found = match(torch.from_numpy(ANCHORS), targets_of(np.zeros((0, 4), np.float32)))
    assert found.negative.all()
    assert not found.positive.any()


def test_a_crowd_is_neither_object_nor_background() -> None:
    found = match(torch.from_numpy(ANCHORS), targets_of(ANCHORS[5:6], crowd=1))
    assert not found.positive.any()
    assert not found.negative[0, 5]
    assert found.negative.any()
