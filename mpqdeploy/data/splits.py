"""Cutting a set of labelled rows class by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mpqdeploy.core import DataError
from mpqdeploy.data.dataset import Labels, Rows
from mpqdeploy.data.spec import DataSpec, Split


def stratified(labels: Labels, fractions: Sequence[float], seed: int) -> list[Rows]:
    """Disjoint row sets, one per fraction and last the remainder; sorted.

    Each class gives its rounded share to every part, so the classes' proportions carry over.
    """
    rng = np.random.default_rng(seed)
    parts: list[list[Rows]] = [[] for _ in range(len(fractions) + 1)]
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label)).astype(np.int64)
        cuts = np.rint(np.cumsum(fractions) * len(rows)).astype(np.int64)
        for part, piece in zip(parts, np.split(rows, cuts), strict=True):
            part.append(piece)
    return [np.sort(np.concatenate(part)) for part in parts]


def first_of_each_class(labels: Labels, rows: Rows, count: int) -> Rows:
    """`count` of `rows`, taken in turn from every class, so that a small part stays balanced."""
    turn = np.zeros(len(rows), dtype=np.int64)
    of_rows = labels[rows]
    for label in np.unique(of_rows):
        members = np.flatnonzero(of_rows == label)
        turn[members] = np.arange(len(members))
    order = np.argsort(turn, kind="stable")
    return np.sort(rows[order[:count]])


def training_splits(labels: Labels, spec: DataSpec) -> Mapping[Split, Rows]:
    """Rows of `train`, `search`, `fit` and `val` among a training set's rows."""
    fractions = (spec.val_fraction, spec.search_fraction)
    val, search, train = stratified(labels, fractions, spec.shuffle_seed)
    named: dict[Split, Rows] = {"train": train, "search": search, "val": val}
    splits = {name: _limited(labels, rows, name, spec) for name, rows in named.items()}
    return {**splits, "fit": np.sort(np.concatenate([splits["train"], splits["search"]]))}


def held_out_split(labels: Labels, spec: DataSpec) -> Mapping[Split, Rows]:
    """Rows of `test` among a test set's rows."""
    rows = np.arange(len(labels), dtype=np.int64)
    return {"test": _limited(labels, rows, "test", spec)}


def require(split: Split, rows: Rows, spec: DataSpec) -> Rows:
    """`rows`, or a `DataError` where the split came out empty."""
    if not len(rows):
        raise DataError(
            f"{spec.name}: the {split} split is empty.",
            hint="Give more images, or larger data.search_fraction and data.val_fraction.",
        )
    return rows


def _limited(labels: Labels, rows: Rows, split: Split, spec: DataSpec) -> Rows:
    limit = spec.limit.get(split)
    return rows if limit is None else first_of_each_class(labels, rows, limit)
