"""`Task`: what a network is for: its loss, its score, what its outputs are called.

A network that is no classifier says so by an attribute `task`, which all its forms keep; so the
training loop, the search and the pipeline ask the network and never what kind it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from mpqdeploy.core import DataError
from mpqdeploy.core.detection import Decoding

Outputs = Tensor | tuple[Tensor, ...]
Kind = Literal["classification", "detection"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """A batch's outputs held against its targets.

    `loss`: mean over the images, shape `[]`, float32. `right`: share of the decisions that are
    right, shape `[]`, in [0, 1], without a gradient: shown while training.
    """

    loss: Tensor
    right: Tensor


class Scorer(Protocol):
    """Gathers outputs over a data set, then scores them."""

    def add(self, outputs: Outputs, targets: Tensor) -> None:
        """One batch, in any device's memory."""
        ...

    def score(self) -> float:
        """In [0, 1], greater is better. Raises `DataError` where nothing was added."""
        ...


class Task(Protocol):
    """`kind` is that of the data sets it learns from; `metric` names the score; `outputs` names the
    network's outputs, in order, and the exported file's; `evaluation_batch` is a number of images
    that fits a machine's memory easily."""

    @property
    def kind(self) -> Kind: ...

    @property
    def metric(self) -> str: ...

    @property
    def outputs(self) -> tuple[str, ...]: ...

    @property
    def evaluation_batch(self) -> int: ...

    def judge(self, outputs: Outputs, targets: Tensor, *, label_smoothing: float = 0.0) -> Judged:
        """Loss of outputs of any precision, computed in float32."""
        ...

    def scorer(self) -> Scorer: ...

    def decoding(self, classes: Sequence[str]) -> Decoding | None:
        """How outputs become boxes of `classes`; None where they are logits of whole images."""
        ...


class Classification:
    """One label per image: targets int64 `[N]`, outputs logits `[N, classes]`; score: top-1."""

    kind: Kind = "classification"
    metric = "top-1"
    outputs = ("logits",)
    evaluation_batch = 250

    def judge(self, outputs: Outputs, targets: Tensor, *, label_smoothing: float = 0.0) -> Judged:
        logits = _only(outputs).float()
        loss = F.cross_entropy(logits, targets, label_smoothing=label_smoothing)
        return Judged(loss=loss, right=(logits.detach().argmax(1) == targets).float().mean())

    def scorer(self) -> Scorer:
        return _Top1()

    def decoding(self, classes: Sequence[str]) -> Decoding | None:
        return None


class _Top1:
    def __init__(self) -> None:
        self._right = self._seen = 0

    def add(self, outputs: Outputs, targets: Tensor) -> None:
        top = _only(outputs).argmax(1)
        self._right += int((top == targets.to(top.device)).sum())
        self._seen += len(targets)

    def score(self) -> float:
        if not self._seen:
            raise DataError("there are no images to evaluate on.", hint="Check the split's limit.")
        return self._right / self._seen


CLASSIFICATION: Task = Classification()


def task_of(net: nn.Module) -> Task:
    """The network's own task; classification for one that names none."""
    task: Task = getattr(net, "task", CLASSIFICATION)
    return task


def _only(outputs: Outputs) -> Tensor:
    return outputs[0] if isinstance(outputs, tuple) else outputs
