from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mpqdeploy.search.prob1 import prob1, prob1_gradient

logits = st.lists(st.floats(-8, 8), min_size=2, max_size=7).map(np.array)


def value(theta: NDArray[np.float64]) -> float:
    return float(prob1([torch.softmax(torch.tensor(theta), dim=0)]))


@given(st.integers(1, 7), st.data())
def test_zero_at_one_hot(count: int, data: st.DataObject) -> None:
    hot = data.draw(st.integers(0, count - 1))
    p = torch.zeros(count, dtype=torch.float64)
    p[hot] = 1.0
    assert float(prob1([p, torch.ones(1, dtype=torch.float64)])) == 0.0


@given(logits)
def test_positive_anywhere_else(theta: NDArray[np.float64]) -> None:
    assert value(theta) > 0.0


@given(logits)
def test_autograd_is_the_closed_form_and_the_finite_difference(theta: NDArray[np.float64]) -> None:
    leaf = torch.tensor(theta, requires_grad=True)
    p = torch.softmax(leaf, dim=0)
    prob1([p]).backward()
    assert leaf.grad is not None
    np.testing.assert_allclose(leaf.grad.numpy(), prob1_gradient(p.detach().numpy()), atol=1e-12)

    step = 1e-6
    for m in range(len(theta)):
        shift = step * np.eye(len(theta))[m]
        numeric = (value(theta + shift) - value(theta - shift)) / (2 * step)
        np.testing.assert_allclose(leaf.grad[m].item(), numeric, atol=1e-8)


def test_uniform_is_stationary_and_a_broken_tie_is_driven_on() -> None:
    np.testing.assert_allclose(prob1_gradient(np.full(6, 1 / 6)), 0.0, atol=1e-15)
    tilted = np.array([0.3, 0.25, 0.25, 0.2])
    descent = -prob1_gradient(tilted)
    assert descent.argmax() == 0
    assert descent[0] > 0 > descent[3]


def test_sites_add_up() -> None:
    p = torch.tensor([0.5, 0.5])
    assert float(prob1([p, p, p])) == 3 * 0.25
