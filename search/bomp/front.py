"""Accuracy against cost: who is not dominated, and how much of the plane the front dominates.

A pair is (accuracy, cost): accuracy is to be large, cost small.
"""

from __future__ import annotations

from collections.abc import Sequence

Pair = tuple[float, float]


def pareto(pairs: Sequence[Pair]) -> tuple[int, ...]:
    """Positions of the pairs that no other dominates, by rising cost.

    A pair dominates another where it is at least as good in both and better in one; of equal pairs
    the first is taken.
    """
    order = sorted(range(len(pairs)), key=lambda i: (pairs[i][1], -pairs[i][0], i))
    front: list[int] = []
    best = float("-inf")
    for position in order:
        if pairs[position][0] > best:
            front.append(position)
            best = pairs[position][0]
    return tuple(front)


def hypervolume(pairs: Sequence[Pair], reference: Pair) -> float:
    """Area between the front and `reference`, exact: a sweep over the front by rising cost.

    The reference is the worst corner that counts: the least accuracy and the greatest cost. Pairs
    beyond it add nothing. Two hypervolumes compare only under one reference, so take it from what
    is known before a study: accuracy 0 (or chance) and the budget, or the cost of the dearest
    network of the space; never the worst trial seen, which is another one in every study.
    """
    floor, ceiling = reference
    inside = [pair for pair in pairs if pair[0] > floor and pair[1] < ceiling]
    front = [inside[position] for position in pareto(inside)]
    edges = [*(cost for _, cost in front), ceiling]
    return sum(
        (accuracy - floor) * (edges[position + 1] - cost)
        for position, (accuracy, cost) in enumerate(front)
    )


def hypervolume_curve(pairs: Sequence[Pair | None], reference: Pair) -> tuple[float, ...]:
    """The hypervolume after each trial; None stands for one that adds nothing (it failed)."""
    curve: list[float] = []
    kept: list[Pair] = []
    for pair in pairs:
        if pair is not None:
            kept = [*kept, pair]
            kept = [kept[position] for position in pareto(kept)]
        curve.append(hypervolume(kept, reference))
    return tuple(curve)
