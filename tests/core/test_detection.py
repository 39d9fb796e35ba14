from __future__ import annotations

import json
import math

import numpy as np
import pytest

from mpqdeploy.core.boxes import encode, iou
from mpqdeploy.core.detection import Anchors, Decoding, by_anchor

PYRAMID = Anchors(image=(64, 96), strides=(8, 16, 32), size=4.0)


def test_anchors_by_the_papers_words() -> None:
    """Sides 32 * 2^(o/3) at stride 8; the area does not depend on the ratio."""
    assert PYRAMID.maps == ((8, 12), (4, 6), (2, 3))
    boxes = PYRAMID.boxes
    assert len(boxes) == 9 * (96 + 24 + 6)
    row, column, octave, ratio = 3, 5, 1, 2
    index = ((row * 12 + column) * 3 + octave) * 3 + ratio
    left, top, right, bottom = boxes[index]
    assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((5.5 * 8, 3.5 * 8))
    assert (bottom - top) / (right - left) == pytest.approx(2.0)
    assert (right - left) * (bottom - top) == pytest.approx((32 * 2 ** (1 / 3)) ** 2, rel=1e-5)
    last = boxes[-9:]
    assert (last[:, 0] + last[:, 2]) / 2 == pytest.approx([2.5 * 32] * 9)


def test_odd_images_round_up() -> None:
    assert Anchors(image=(96, 96), strides=(32, 64, 128)).maps == ((3, 3), (2, 2), (1, 1))


def test_an_output_is_read_in_the_order_of_the_anchors() -> None:
    output = np.arange(2 * 3 * 4 * 5).reshape(6, 4, 5).astype(np.float32)
    flat = by_anchor(output, per_cell=2)
    for anchor in range(2):
        for row in range(4):
            for column in range(5):
                cell = flat[(row * 5 + column) * 2 + anchor]
                assert cell.tolist() == output[anchor * 3 : anchor * 3 + 3, row, column].tolist()


def outputs_for(pyramid: Anchors, truth: np.ndarray, labels: list[int], classes: int) -> list:
    """What a perfect network says: every anchor of much overlap sees its box."""
    overlaps = iou(pyramid.boxes, truth)
    best = overlaps.argmax(1)
    deltas = encode(truth[best], pyramid.boxes)
    logits = np.full((len(best), classes), -9.0, np.float32)
    for anchor, box in enumerate(best):
        if overlaps[anchor, box] > 0.5:
            logits[anchor, labels[box]] = 3 * overlaps[anchor, box]
    maps = []
    for values in (logits, deltas):
        start = 0
        for height, width in pyramid.maps:
            size = height * width * pyramid.per_cell
            level = values[start : start + size]
            split = level.reshape(height, width, pyramid.per_cell, -1).transpose(2, 3, 0, 1)
            maps.append(split.reshape(1, -1, height, width).astype(np.float32))
            start += size
    return maps


def test_decoding_finds_what_was_encoded() -> None:
    truth = np.array([[8, 8, 40, 40], [50, 10, 90, 60], [10, 10, 42, 42]], np.float32)
    labels = [0, 1, 2]
    decoding = Decoding(anchors=PYRAMID, classes=("a", "b", "c"))
    (found,) = decoding(outputs_for(PYRAMID, truth, labels, 3))
    confident = found.at_least(0.6)
    assert sorted(confident.labels.tolist()) == labels
    for box, label in zip(confident.boxes, confident.labels, strict=True):
        np.testing.assert_allclose(box, truth[label], atol=1e-3)
    assert (np.diff(found.scores) <= 0).all()
    assert found.scores.max() == pytest.approx(1 / (1 + math.exp(-3 * 1)), abs=0.2)


def test_limits_and_thresholds() -> None:
    truth = np.array([[8, 8, 40, 40], [50, 10, 90, 60]], np.float32)
    outputs = outputs_for(PYRAMID, truth, [0, 0], 1)
    few = Decoding(anchors=PYRAMID, classes=("a",), limit=1)(outputs)[0]
    assert len(few) == 1
    none = Decoding(anchors=PYRAMID, classes=("a",), score_threshold=0.999)(outputs)[0]
    assert len(none) == 0
    assert none.boxes.shape == (0, 4)


def test_json_round_trip() -> None:
    decoding = Decoding(anchors=PYRAMID, classes=("a", "b"), limit=7)
    assert Decoding.from_json(json.loads(json.dumps(decoding.to_json()))) == decoding
