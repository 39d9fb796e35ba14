"""COCO's mean average precision, computed by pycocotools."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.core import ConfigError, DataError
from mpqdeploy.core.detection import Detections

FIGURES = ("mAP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
"""The first six of COCO's twelve figures, in its order."""

_MOST = 100  # detections per image that count


class AveragePrecision:
    """Gathers truth and detections image by image.

    Both are in the network's pixels: precision does not change where all boxes grow alike, but
    "small" then means less than 32² of *these* pixels.
    """

    def __init__(self) -> None:
        self._truth: list[dict[str, Any]] = []
        self._found: list[dict[str, Any]] = []
        self._images = 0

    def add(self, targets: NDArray[np.float32], found: Detections) -> None:
        """One image: targets `[M, 6]` (see `mpqdeploy.nn.detection.matching`)."""
        self._images += 1
        for left, top, right, bottom, label, crowd in targets.tolist():
            if label >= 0:
                width, height = right - left, bottom - top
                self._truth.append(
                    {
                        "id": len(self._truth) + 1,
                        "image_id": self._images,
                        "category_id": int(label) + 1,
                        "bbox": [left, top, width, height],
                        "area": width * height,
                        "iscrowd": int(crowd > 0),
                    }
                )
        rows = zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
        for (left, top, right, bottom), score, label in rows:
            self._found.append(
                {
                    "image_id": self._images,
                    "category_id": label + 1,
                    "bbox": [left, top, right - left, bottom - top],
                    "score": score,
                }
            )

    def figures(self) -> dict[str, float]:
        """`FIGURES` by name, in [0, 1]; NaN for a size that no object has.

        Classes without an object do not count. Raises `DataError` where there is no object at all,
        and `ConfigError` without pycocotools.
        """
        if not any(not box["iscrowd"] for box in self._truth):
            raise DataError(
                "there are no boxes to score detections against.", hint="Check the split's limit."
            )
        if not self._found:
            return dict.fromkeys(FIGURES, 0.0)
        # pycocotools tells stdout what it does, and its tables too.
        with contextlib.redirect_stdout(io.StringIO()):
            stats = self._evaluate()
        values = (float(value) if value >= 0 else float("nan") for value in stats)
        return dict(zip(FIGURES, values, strict=False))

    def _evaluate(self) -> NDArray[np.float64]:
        coco, evaluation = _pycocotools()
        truth = coco()
        categories = sorted({box["category_id"] for box in (*self._truth, *self._found)})
        truth.dataset = {
            "info": {},
            "images": [{"id": number + 1} for number in range(self._images)],
            "annotations": self._truth,
            "categories": [{"id": category, "name": str(category)} for category in categories],
        }
        truth.createIndex()
        run = evaluation(truth, truth.loadRes(self._found), "bbox")
        run.params.maxDets = [1, 10, _MOST]
        run.evaluate()
        run.accumulate()
        run.summarize()
        stats: NDArray[np.float64] = run.stats
        return stats


def _pycocotools() -> tuple[Any, Any]:
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise ConfigError(
            "pycocotools is not installed, and detections are scored by it.",
            hint="pip install 'mpqdeploy[detect]'",
        ) from error
    return COCO, COCOeval
