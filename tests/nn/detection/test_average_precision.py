from __future__ import annotations

import numpy as np
import pytest

from mpqdeploy.core import DataError
from mpqdeploy.core.detection import Detections
from mpqdeploy.nn.detection.average_precision import FIGURES, AveragePrecision


def detections(rows: list[list[float]]) -> Detections:
    """Rows of left, top, right, bottom, score, label."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(boxes=table[:, :4], scores=table[:, 4], labels=table[:, 5].astype(np.int64))


TRUTH = np.array([[0, 0, 10, 10, 0, 0], [20, 20, 60, 60, 1, 0], [0, 0, 0, 0, -1, 0]], np.float32)
PERFECT = [[0, 0, 10, 10, 0.9, 0], [20, 20, 60, 60, 0.8, 1]]


def score(truth: np.ndarray, rows: list[list[float]]) -> dict[str, float]:
    precision = AveragePrecision()
    precision.add(truth, detections(rows))
    return precision.figures()


def test_perfect_and_nothing() -> None:
    perfect = score(TRUTH, PERFECT)
    assert list(perfect) == list(FIGURES)
    assert perfect["mAP"] == pytest.approx(1.0)
    assert np.isnan(perfect["AP_large"])
    assert score(TRUTH, [])["mAP"] == 0.0


def test_a_box_that_is_somewhat_off_counts_at_loose_thresholds_only() -> None:
    """IoU 0.8 with both: right at thresholds 0.5, 0.55, ..., 0.75 and 0.8, seven of ten."""
    truth = np.array([[0, 0, 100, 100, 0, 0]], np.float32)
    found = score(truth, [[0, 0, 100, 80.5, 0.9, 0]])
    assert found["AP50"] == pytest.approx(1.0)
    assert found["mAP"] == pytest.approx(0.7)


def test_a_false_alarm_before_the_hit_halves_precision() -> None:
    truth = np.array([[0, 0, 100, 100, 0, 0]], np.float32)
    rows = [[200, 200, 300, 300, 0.9, 0], [0, 0, 100, 100, 0.8, 0]]
    assert score(truth, rows)["mAP"] == pytest.approx(0.5)


def test_wrong_class_is_wrong_and_a_crowd_is_ignored() -> None:
    truth = np.array([[0, 0, 100, 100, 0, 0]], np.float32)
    assert score(truth, [[0, 0, 100, 100, 0.9, 1]])["mAP"] == 0.0
    crowded = np.array([[0, 0, 100, 100, 0, 0], [200, 200, 400, 400, 0, 1]], np.float32)
    rows = [[210, 210, 390, 390, 0.95, 0], [0, 0, 100, 100, 0.9, 0]]
    assert score(crowded, rows)["mAP"] == pytest.approx(1.0)


def test_no_truth_is_an_error() -> None:
    with pytest.raises(DataError, match="no boxes"):
        AveragePrecision().figures()
