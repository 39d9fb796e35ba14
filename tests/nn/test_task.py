from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from mpqdeploy.core import DataError
from mpqdeploy.nn import CLASSIFICATION, ModelSpec, build_float, task_of


def test_a_network_without_a_task_is_a_classifier() -> None:
    net = build_float(ModelSpec(name="digits_cnn", num_classes=10, image=(1, 8, 8)))
    assert task_of(net) is CLASSIFICATION
    assert task_of(nn.Linear(1, 1)) is CLASSIFICATION


def test_classification_is_judged_by_cross_entropy_and_top1() -> None:
    logits = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]], dtype=torch.bfloat16)
    labels = torch.tensor([0, 1])
    judged = CLASSIFICATION.judge(logits, labels)
    assert judged.loss.dtype == torch.float32
    assert judged.loss.item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2, abs=2e-3)
    assert judged.right.item() == 0.5
    assert CLASSIFICATION.judge(logits, labels, label_smoothing=0.5).loss > judged.loss


def test_a_scorer_gathers_batches() -> None:
    scorer = CLASSIFICATION.scorer()
    scorer.add(torch.tensor([[2.0, 1.0], [0.0, 1.0]]), torch.tensor([0, 0]))
    scorer.add((torch.tensor([[0.0, 1.0]]),), torch.tensor([1]))
    assert scorer.score() == pytest.approx(2 / 3)
    with pytest.raises(DataError, match="no images"):
        CLASSIFICATION.scorer().score()
