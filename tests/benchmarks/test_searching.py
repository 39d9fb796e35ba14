"""What the benchmarks of the search count, and that a killed one continues."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import bpnas
import pytest
import search_step
import torch
from searching import ablation, fronts, hits, published, stepping
from searching.drafts import Drafts
from searching.setting import METRICS, Setting, kernel_store
from searching.tuning import Tuning

from mpqdeploy.core import parse_precisions
from mpqdeploy.core.files import read_json, write_json
from mpqdeploy.nn import ModelSpec, build_float
from mpqdeploy.nn.training import Recipe
from mpqdeploy.search import BpNasSettings, Result
from mpqdeploy.targets.target import load_target
from mpqdeploy.ui import Ui
from tests.search.problems import tiny_problem
from tests.tracking.epochs import epoch

SHORT = BpNasSettings(
    epochs=2, steps=2, batch_size=16, val_batches=1, theta_lr=0.5, mode="factorized"
)
QUIET = Ui(quiet=True)


def setting(folder: Path) -> Setting:
    problem = tiny_problem()
    checkpoint = folder / "float.pt"
    torch.manual_seed(0)
    torch.save(build_float(problem.spec).state_dict(), checkpoint)
    return Setting(
        spec=problem.spec,
        dataset=problem.dataset,
        candidates={site: tuple(choices) for site, choices in problem.candidates.items()},
        tables=problem.tables,
        checkpoint=checkpoint,
        device="cpu",
    )


def result(*ends: float) -> Result:
    """Searches of two epochs that ended with these costs, under a limit of 80."""
    history = [
        replace(epoch(number), round=index, epochs=2, argmax_cost={"latency": cost})
        for index, end in enumerate(ends)
        for number, cost in ((1, 10.0), (2, end))
    ]
    return Result(
        policy=None,  # type: ignore[arg-type]
        costs={},
        moves=0,
        upgrades=0,
        probabilities={},
        history=tuple(history),
        weights=Path("none"),
    )


@pytest.mark.parametrize(
    ("ends", "first"), [((70.0,), 1), ((90.0, 85.0, 80.0, 70.0), 3), ((90.0, 81.0), None)]
)
def test_the_first_search_inside_is_judged_by_its_last_epoch(
    ends: tuple[float, ...], first: int | None
) -> None:
    assert hits.first_inside(result(*ends)) == first


def test_budgets_spread_evenly_and_leave_the_ends_out() -> None:
    assert hits.rooms(10)[0] == pytest.approx(0.05)
    assert hits.rooms(10)[-1] == pytest.approx(0.95)
    assert len(hits.rooms(10)) == 10


@pytest.mark.slow
def test_hits_are_counted_and_not_searched_twice(tmp_path: Path) -> None:
    given = setting(tmp_path)
    records = hits.hits(given, SHORT, tmp_path / "hits", 1, QUIET)
    assert [record["metric"] for record in records] == list(METRICS)
    assert all(record["penalty"]["searches"] >= 1 for record in records)
    assert all(0 <= record["bpnas"]["used"] <= 1 + 1e-9 for record in records)
    (bops,) = (tmp_path / "hits").glob("bops-*.json")
    write_json(bops, {**read_json(bops), "marked": True})
    again = hits.hits(given, SHORT, tmp_path / "hits", 1, QUIET)
    assert [record.get("marked") for record in again] == [None, True, None]
    rows = hits.summary(records)
    assert [row[0] for row in rows] == [*METRICS, "all"]
    assert all(len(row) == len(hits.COLUMNS) for row in rows)


@pytest.mark.slow
def test_every_combination_is_searched_for_every_seed(tmp_path: Path) -> None:
    records = ablation.ablation(setting(tmp_path), SHORT, tmp_path / "ablation", 1, QUIET)
    assert len(records) == 8
    assert len({tuple(record["parts"].values()) for record in records}) == 8
    rows = ablation.summary(records)
    assert rows[0][:3] == ["on", "on", "on"]
    assert all(len(row) == len(ablation.COLUMNS) for row in rows)


@pytest.mark.slow
def test_a_front_compares_at_equal_measured_latency(tmp_path: Path) -> None:
    given = setting(tmp_path)
    target = load_target("host")
    drafts = Drafts(given, target, kernel_store(tmp_path), tmp_path / "drafts")
    recipe = Recipe(epochs=1, batch_size=32, lr=0.02)
    tuning = Tuning(given, recipe, "search", tmp_path / "tuned", QUIET)
    front = fronts.Fronts(drafts, SHORT, tuning, tmp_path / "front", QUIET)
    records = front.records([0.5], target.precisions[:2])
    assert [r["method"] for r in records] == ["uniform", "uniform", "bops", "latency", "program"]
    assert records[2]["bops"] <= records[2]["limit"]
    kept = read_json(tmp_path / "front" / "bops-0.500.json")
    assert records[3]["limit"] == records[4]["limit"] == kept["latency_us"]
    assert records[3]["inside"] or records[3]["rounds"] == fronts.ROUNDS
    share = given.dataset.size("search") / given.dataset.size("fit")
    assert {r["epochs"] for r in records} == {round(share, 2)}
    assert all(0 < r["test_accuracy"] <= 1 and r["of_wide"][0] > 0 for r in records)
    assert records[0]["of_wide"][0] == 1.0  # 8/8 is the clock itself
    rows = fronts.summary(records)
    assert all(len(row) == len(fronts.COLUMNS) for row in rows)
    (verdict,) = fronts.verdicts(records)
    assert "points" in verdict
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "front").glob("*.json")}
    again = front.records([0.5], target.precisions[:2])
    assert [r["policy"] for r in again] == [r["policy"] for r in records]
    assert times == {p: p.stat().st_mtime_ns for p in (tmp_path / "front").glob("*.json")}


@pytest.mark.slow
def test_our_rows_stand_beside_the_papers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "GOALS", {"fewer bytes": ("bytes", 8.0)})
    given = setting(tmp_path)
    recipe = Recipe(epochs=1, batch_size=32, lr=0.02)
    tuning = Tuning(given, recipe, "search", tmp_path / "tuned", QUIET)
    records = published.published(
        given, SHORT, tuning, parse_precisions(("4/4",)), tmp_path / "published", QUIET
    )
    float_row, four, searched = records
    assert float_row["weights"] == float_row["bops"] == 1.0
    # All but the 8/8 ends of the network have an eighth of the bits, products a 64th.
    assert 4.0 < four["weights"] < 8.0
    assert 16.0 < four["bops"] < 64.0
    assert searched["weights"] >= 8.0
    assert all(0 < record["top1"] <= 1 for record in records)
    rows = published.summary(records, "cpu")
    assert len(rows) == len(published.PAPERS) + 3
    assert all(len(row) == len(published.COLUMNS) for row in rows)
    assert rows[-3][4] == "0.00"


@pytest.mark.slow
def test_the_command_leaves_records_and_a_figure(tmp_path: Path) -> None:
    options = ["--claim", "ablation", "--seeds", "1", "--epochs", "2", "--steps", "2"]
    places = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]
    assert bpnas.main([*options, *places]) == 0
    document = read_json(tmp_path / "out" / "bpnas-ablation.json")
    assert len(document["records"]) == 8
    assert document["settings"]["epochs"] == 2
    assert (tmp_path / "out" / "bpnas-ablation.svg").exists()


def test_resnet20_wants_to_know_where_its_data_lie(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ["--work", str(tmp_path)]
    assert bpnas.main(["--claim", "front", "--network", "resnet20", *places]) == 2
    assert "--data DIR" in capsys.readouterr().err


def steps() -> dict[str, Any]:
    spec = ModelSpec(name="digits_cnn", num_classes=10, image=(1, 8, 8), options={"width": 4})
    batch = stepping.random_batch(spec, 4, torch.device("cpu"))
    return stepping.steps_of(spec, parse_precisions(("8/8", "4/4", "2/2")), batch)


def test_every_step_trains_and_is_accounted_for() -> None:
    made = steps()
    device = torch.device("cpu")
    seconds = stepping.timed(made, 2, device)
    assert set(seconds) == {
        stepping.QAT,
        *(
            f"{mode}, {level}"
            for mode in ("factorized", "joint")
            for level in ("weights", "logits")
        ),
    }
    peaks = {name: stepping.peak_bytes(step, device) for name, step in made.items()}
    assert peaks["joint, weights"] > peaks[stepping.QAT] > 0
    shares = stepping.breakdown(made["joint, weights"])
    assert shares["convolutions"] > 0
    assert shares["activation quantizers"] > 0
    assert sum(shares.values()) == pytest.approx(1.0)
    rows = [search_step.row(name, seconds, peaks) for name in made]
    assert all(len(row) == len(search_step.COLUMNS) for row in rows)
    assert rows[0][3] == "1.00"
    assert [row[5] for row in rows] == ["", "2.5", "2.5", "7", "7"]
