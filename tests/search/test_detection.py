"""The same search on a detector: backbone, pyramid and heads, under a budget on BOPs."""

from __future__ import annotations

from pathlib import Path

from mpqdeploy.core import Budget, bops_table, bytes_table, parse_precisions
from mpqdeploy.data import DataSpec, load_dataset
from mpqdeploy.nn import ModelSpec, sites
from mpqdeploy.search.bpnas import BpNas
from mpqdeploy.search.engine import Problem, load_network
from mpqdeploy.search.settings import BpNasSettings

PRECISIONS = parse_precisions(["8/8", "4/4"])
TINY = {"width": 8, "features": 8, "depth": 1, "octaves": 1, "ratios": [1.0]}


def detector_problem(share: float) -> Problem:
    limit = {"train": 8, "search": 8, "val": 4, "test": 4}
    dataset = load_dataset(DataSpec(name="shapes", size=64, limit=limit))
    spec = ModelSpec(name="retinanet", num_classes=3, image=dataset.image, options=TINY)
    found = sites(spec)
    candidates = {s.name: (s.pinned,) if s.pinned else PRECISIONS for s in found}
    tables = {"bops": bops_table(found, PRECISIONS), "bytes": bytes_table(found, PRECISIONS)}
    least, greatest = tables["bops"].bounds(candidates)
    budget = Budget(metric="bops", limit=least + share * (greatest - least))
    return Problem(
        spec=spec, dataset=dataset, candidates=candidates, tables=tables, budgets=(budget,)
    )


def test_one_search_ends_inside_its_budget(tmp_path: Path) -> None:
    problem = detector_problem(0.4)
    settings = BpNasSettings(
        mode="factorized", epochs=2, steps=2, batch_size=4, val_batches=1, calibration_batches=1
    )
    result = BpNas(settings).search(problem, tmp_path)
    assert problem.inside(result.policy)
    assert {"class_head.convs.0", "pyramid.p6", "backbone.layer4.1.conv2"} <= set(
        result.policy.precisions
    )
    assert str(result.policy["class_head.predict"]) == "8/8"
    assert all(0 <= epoch.val_accuracy <= 1 for epoch in result.history)
    assert load_network(problem.spec, result) is not None
