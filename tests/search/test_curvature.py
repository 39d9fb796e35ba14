"""Traces against the exact Hessian of networks that are small enough to have one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.linalg import hadamard
from torch import Tensor, nn

from mpqdeploy.search.curvature import Probe, fisher_traces, hessian_traces, rademacher


class Tiny(nn.Module):
    """Two layers with a smooth nonlinearity, and a zero added to what the second one reads."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)
        self.double()

    def forward(self, x: Tensor, zero: Tensor) -> Tensor:
        out: Tensor = self.second(torch.tanh(self.first(x)) + zero)
        return out


def setting() -> tuple[Tiny, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    net = Tiny()
    zero = torch.zeros(2, 4, dtype=torch.float64, requires_grad=True)
    return net, torch.randn(2, 3, dtype=torch.float64), torch.tensor([0, 1]), zero


def exact(net: Tiny, x: Tensor, labels: Tensor, zero: Tensor) -> list[float]:
    names = ["first.weight", "second.weight"]
    leaves = [net.first.weight, net.second.weight, zero]

    def loss(index: int) -> Tensor:
        def of(value: Tensor) -> Tensor:
            if index == 2:
                return F.cross_entropy(net(x, value), labels)
            changed = {names[index]: value}
            return F.cross_entropy(torch.func.functional_call(net, changed, (x, zero)), labels)

        hessian: Tensor = torch.autograd.functional.hessian(of, leaves[index].detach())
        return hessian.reshape(leaves[index].numel(), -1).trace()

    return [float(loss(index)) for index in range(3)]


def balanced(leaves: Sequence[Tensor]) -> list[Probe]:
    """The columns of a Hadamard matrix: their mean z z^T is the identity itself."""
    total = sum(leaf.numel() for leaf in leaves)
    order = 1 << (total - 1).bit_length()
    columns = torch.from_numpy(hadamard(order)[:total].astype(np.float64))
    sizes = [leaf.numel() for leaf in leaves]
    return [
        [
            part.reshape(leaf.shape)
            for part, leaf in zip(columns[:, k].split(sizes), leaves, strict=True)
        ]
        for k in range(order)
    ]


def test_balanced_probes_give_the_exact_trace_of_every_leaf() -> None:
    net, x, labels, zero = setting()
    leaves = [net.first.weight, net.second.weight, zero]
    loss = F.cross_entropy(net(x, zero), labels)
    found = hessian_traces(loss, leaves, balanced(leaves))
    assert found == pytest.approx(exact(net, x, labels, zero), rel=1e-9)


def test_random_probes_are_right_on_average() -> None:
    net, x, labels, zero = setting()
    leaves = [net.first.weight, net.second.weight, zero]
    loss = F.cross_entropy(net(x, zero), labels)
    generator = torch.Generator().manual_seed(1)
    found = np.array(
        [hessian_traces(loss, leaves, [rademacher(leaves, generator)]) for _ in range(200)]
    )
    errors = np.abs(found.mean(0) - exact(net, x, labels, zero))
    assert (errors < 3 * found.std(0) / np.sqrt(len(found))).all()


def test_probes_are_signs_and_repeat_with_their_seed() -> None:
    leaves = [torch.zeros(50, 2), torch.zeros(7)]
    one, two = (rademacher(leaves, torch.Generator().manual_seed(3)) for _ in range(2))
    for a, b, leaf in zip(one, two, leaves, strict=True):
        assert torch.equal(a, b)
        assert a.shape == leaf.shape
        assert set(a.unique().tolist()) == {-1.0, 1.0}


def test_the_fisher_is_the_hessian_in_expectation_where_labels_follow_the_model() -> None:
    """For one linear layer under cross-entropy the two are equal: sum over labels of p g^2."""
    torch.manual_seed(0)
    layer = nn.Linear(3, 4, bias=False).double()
    x = torch.randn(1, 3, dtype=torch.float64)
    chances = torch.softmax(layer(x), 1)[0].tolist()
    fisher = 0.0
    for label, chance in enumerate(chances):
        loss = F.cross_entropy(layer(x), torch.tensor([label]))
        fisher += chance * fisher_traces(loss, [layer.weight])[0]
    loss = F.cross_entropy(layer(x), torch.tensor([0]))
    (hessian,) = hessian_traces(loss, [layer.weight], balanced([layer.weight]))
    assert fisher == pytest.approx(hessian)


def test_shared_probes_leave_the_terms_between_leaves_out_on_average() -> None:
    """Over all 16 probes, f = x^T y has trace 0 in x and in y."""
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    y = torch.tensor([3.0, 4.0], requires_grad=True)
    signs = itertools.product((-1.0, 1.0), repeat=4)
    probes = [[torch.tensor(s[:2]), torch.tensor(s[2:])] for s in signs]
    assert hessian_traces(x @ y, [x, y], probes) == [0.0, 0.0]
