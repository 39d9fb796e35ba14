"""`Detection`: the task of a one-stage detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpqdeploy.core import ConfigError, DataError
from mpqdeploy.core.detection import Anchors, Decoding
from mpqdeploy.nn.detection.average_precision import AveragePrecision
from mpqdeploy.nn.detection.losses import decoded, encoded, focal, giou, smooth_l1
from mpqdeploy.nn.detection.matching import Matches, match
from mpqdeploy.nn.task import Judged, Kind, Outputs

BoxLoss = Literal["smooth_l1", "giou"]


@dataclass(frozen=True, kw_only=True)
class Detection:
    """Boxes in images. Targets: see `mpqdeploy.nn.detection.matching`; outputs: see `Decoding`.

    The loss is (sum of focal losses + sum of box losses of the positive anchors) / number of
    positive anchors of the batch (Lin et al. 2017, section 4.1); where several processes share a
    batch, each divides by its own part's number [o]. `right` is the share of positive
    anchors that see their class with more than 0.5. The score is COCO's mAP.
    """

    anchors: Anchors
    box_loss: BoxLoss = "smooth_l1"

    kind: ClassVar[Kind] = "detection"
    metric: ClassVar[str] = "mAP"
    evaluation_batch: ClassVar[int] = 16

    def __post_init__(self) -> None:
        if self.box_loss not in ("smooth_l1", "giou"):
            raise ConfigError(
                f"there is no box loss {self.box_loss!r}.", hint="Use smooth_l1 or giou."
            )

    @property
    def outputs(self) -> tuple[str, ...]:
        levels = [stride.bit_length() - 1 for stride in self.anchors.strides]
        return tuple(f"{kind}_p{level}" for kind in ("class", "box") for level in levels)

    def decoding(self, classes: Sequence[str]) -> Decoding:
        """See `Task.decoding`."""
        return Decoding(anchors=self.anchors, classes=tuple(classes))

    def judge(self, outputs: Outputs, targets: Tensor, *, label_smoothing: float = 0.0) -> Judged:
        """Raises `ConfigError` for label smoothing, which focal loss has no place for."""
        if label_smoothing:
            raise ConfigError(
                f"label_smoothing {label_smoothing} is for classifiers, not for a detector.",
                hint="Leave it out.",
            )
        logits, deltas = self._flat(outputs)
        anchors = torch.from_numpy(self.anchors.boxes).to(logits.device)
        matches = match(anchors, targets)
        positive = matches.positive
        count = positive.sum().clamp_min(1)
        own = targets.gather(1, matches.row[..., None].expand(-1, -1, targets.shape[2]))[positive]
        wanted = torch.zeros_like(logits)
        wanted[positive] = torch.nn.functional.one_hot(own[:, 4].long(), logits.shape[2]).float()
        counts = positive | matches.negative
        class_loss = focal(logits[counts], wanted[counts]).sum()
        box_loss = self._boxes(deltas, own[:, :4], anchors, matches)
        seen = (logits.detach() > 0) & (wanted > 0)
        return Judged(loss=(class_loss + box_loss) / count, right=seen.sum() / count)

    def scorer(self) -> _Scorer:
        return _Scorer(self.decoding(()))

    def _boxes(self, deltas: Tensor, boxes: Tensor, anchors: Tensor, matches: Matches) -> Tensor:
        """Summed box loss of the positive anchors; `boxes` `[P, 4]` are theirs."""
        found = deltas[matches.positive]
        own = anchors.expand(len(deltas), -1, -1)[matches.positive]
        if self.box_loss == "giou":
            return giou(decoded(found, own), boxes).sum()
        return smooth_l1(found, encoded(boxes, own)).sum()

    def _flat(self, outputs: Outputs) -> tuple[Tensor, Tensor]:
        """Logits `[N, A, K]` and deltas `[N, A, 4]` over all levels, float32."""
        levels = len(self.anchors.strides)
        flat = [self._by_anchor(output.float()) for output in outputs]
        return torch.cat(flat[:levels], dim=1), torch.cat(flat[levels:], dim=1)

    def _by_anchor(self, output: Tensor) -> Tensor:
        count, channels, height, width = output.shape
        per_cell = self.anchors.per_cell
        split = output.reshape(count, per_cell, channels // per_cell, height, width)
        return split.permute(0, 3, 4, 1, 2).reshape(count, -1, channels // per_cell)


class _Scorer:
    """mAP of raw outputs."""

    def __init__(self, decoding: Decoding) -> None:
        self._decoding = decoding
        self._precision = AveragePrecision()
        self._empty = True

    def add(self, outputs: Outputs, targets: Tensor) -> None:
        self._empty = False
        arrays: list[NDArray[np.float32]] = [o.detach().float().cpu().numpy() for o in outputs]
        for found, truth in zip(self._decoding(arrays), targets.cpu().numpy(), strict=True):
            self._precision.add(truth, found)

    def score(self) -> float:
        if self._empty:
            raise DataError("there are no images to evaluate on.", hint="Check the split's limit.")
        return self.figures()["mAP"]

    def figures(self) -> dict[str, float]:
        """mAP, and COCO's further figures by name."""
        return self._precision.figures()
