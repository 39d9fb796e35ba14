from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mpqdeploy.core.boxes import area, clip, decode, encode, iou, suppress


def random_boxes(seed: int, count: int, side: int = 20) -> np.ndarray:
    """Whole-number boxes with an extent."""
    rng = np.random.default_rng(seed)
    low = rng.integers(0, side - 1, (count, 2))
    high = low + 1 + rng.integers(0, side - low.max(), (count, 2))
    return np.concatenate([low, high], axis=1).astype(np.float32)


def painted(box: np.ndarray, side: int = 60) -> np.ndarray:
    canvas = np.zeros((side, side), bool)
    left, top, right, bottom = box.astype(int)
    canvas[top:bottom, left:right] = True
    return canvas


@given(st.integers(0, 1000))
def test_overlap_is_that_of_counted_pixels(seed: int) -> None:
    first, second = random_boxes(seed, 3), random_boxes(seed + 1, 4)
    found = iou(first, second)
    for i, a in enumerate(first):
        assert area(first)[i] == painted(a).sum()
        for j, b in enumerate(second):
            shared = (painted(a) & painted(b)).sum() / (painted(a) | painted(b)).sum()
            assert found[i, j] == pytest.approx(shared, abs=1e-6)


def test_empty_boxes_overlap_nothing() -> None:
    empty = np.array([[3, 3, 3, 3]], np.float32)
    assert iou(empty, empty).tolist() == [[0.0]]
    assert iou(np.zeros((0, 4), np.float32), empty).shape == (0, 1)


@given(st.integers(0, 1000))
def test_decode_undoes_encode(seed: int) -> None:
    boxes, anchors = random_boxes(seed, 5), random_boxes(seed + 7, 5)
    np.testing.assert_allclose(decode(encode(boxes, anchors), anchors), boxes, atol=1e-3)


def test_decode_is_the_papers_formula() -> None:
    anchor = np.array([[10, 20, 30, 60]], np.float32)  # centre (20, 40), sides 20 and 40
    delta = np.array([[0.5, -0.25, np.log(2), 0]], np.float32)
    assert decode(delta, anchor)[0] == pytest.approx([10, 10, 50, 50])
    assert np.isfinite(decode(np.full((1, 4), 1e4, np.float32), anchor)).all()


def test_clip() -> None:
    boxes = np.array([[-5, 2, 30, 50]], np.float32)
    assert clip(boxes, height=40, width=20).tolist() == [[0, 2, 20, 40]]


@given(
    seed=st.integers(0, 500),
    scores=arrays(np.float32, 12, elements=st.floats(0, 1, width=32)),
    threshold=st.sampled_from([0.3, 0.5]),
)
def test_suppression_by_its_definition(seed: int, scores: np.ndarray, threshold: float) -> None:
    boxes = random_boxes(seed, 12)
    labels = np.random.default_rng(seed).integers(0, 2, 12)
    kept = suppress(boxes, scores, labels, threshold)
    overlaps = iou(boxes, boxes)
    expected: list[int] = []
    for i in sorted(range(12), key=lambda i: (-scores[i], i)):
        if all(labels[i] != labels[j] or overlaps[i, j] <= threshold for j in expected):
            expected.append(i)
    assert kept.tolist() == expected


def test_nothing_to_suppress() -> None:
    empty = np.zeros((0, 4), np.float32)
    assert suppress(empty, empty[:, 0], np.zeros(0, np.int64), 0.5).shape == (0,)
