"""`mpqdeploy run` with bomp-nas: to a front of bundles, killed on the way, and refused."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mpqdeploy
from mpqdeploy.core.files import read_json
from mpqdeploy.search.bomp import Trial
from mpqdeploy.search.bomp.finding import front_of
from tests.forks import ONE_THREAD, Forks
from tests.runs import half_written
from tests.search.bomp.server import binaries, running

# A budget on bytes, which are counted: what the engine proposes does not hang on measured times.
CONFIG = """\
model: {{name: mobile_digits}}
data: {{name: digits, limit: {{train: 128, search: 32, val: 64, test: 64}}}}
precisions: ["8/8", "4/4"]
budgets: [{{metric: bytes, limit: "80%"}}]
search:
  engine: bomp-nas
  bomp:
    trials: 5
    initial: 2
    epochs: 2
    pareto: 2
    front: bytes
    space: {{kernels: [3], widths: [0.5, 1.0], expansions: [1, 2], repeats: [0, 1]}}
train: {{epochs: 3, batch_size: 32, lr: 0.05}}
finetune: {{epochs: 1, batch_size: 32, lr: 0.01}}
measure: {{warmup: 1, samples: 5, inner: 1, store: "sqlite:///{folder}/store.sqlite"}}
baselines: []
run_dir: {folder}/run
"""


def write_config(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "c.yaml"
    path.write_text(CONFIG.format(folder=folder), encoding="utf-8")
    return path


def outcome(folder: Path) -> dict[str, Any]:
    """Everything of a finished run that the seed decides: no measured time is in it."""
    trials = [Trial.from_json(t) for t in study(folder)["trials"]]
    summary = read_json(folder / "run" / "summary.json")
    return {
        "trials": [
            (t.point, t.outcome.accuracy, t.outcome.costs["bytes"], t.outcome.costs["bops"])
            for t in trials
            if t.outcome is not None
        ],
        "front": [t.number for t in front_of(trials, "bytes")],
        "rows": [(row["name"], row["accuracy"], row["policy"]) for row in summary["rows"]],
    }


def study(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = read_json(folder / "run" / "steps" / "study" / "done.json")["result"]
    return result


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks() as server:
        yield server


@pytest.fixture(scope="module")
def finished(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    ended = forks.run("run", str(write_config(folder)), folder=folder)
    assert ended.code == 0, ended.err
    (folder / "stdout").write_text(ended.out, encoding="utf-8")
    (folder / "stderr").write_text(ended.err, encoding="utf-8")
    return folder


@pytest.mark.slow
def test_a_run_ends_with_a_front_of_bundles_and_a_report(finished: Path) -> None:
    summary = read_json(finished / "run" / "summary.json")
    assert summary["holds"]
    names = [row["name"] for row in summary["rows"]]
    assert len(names) in (1, 2)
    assert all(name.startswith("trial-") for name in names)
    bundles = [Path(summary["bundle"]), *map(Path, summary["pareto"])]
    assert bundles[0] == finished / "run" / "bundle"
    assert len(bundles) == len(names)
    shipped = [*names[-1:], *names[:-1]]
    for folder, name in zip(bundles, shipped, strict=True):
        model = mpqdeploy.load(folder)
        row = next(row for row in summary["rows"] if row["name"] == name)
        assert model.manifest.accuracy["top1"] == row["accuracy"]
        assert model.manifest.certificate.holds
        assert read_json(folder / "policy.json")["architecture"]["kernels"] == [3, 3, 3]
    assert "Bits per layer of the front" in (finished / "run" / "report.html").read_text()
    assert not half_written(finished / "run")


@pytest.mark.slow
def test_every_trial_has_a_line_and_measured_costs(finished: Path) -> None:
    err = (finished / "stderr").read_text()
    log = (finished / "run" / "run.log").read_text()
    for number in range(5):
        assert f"trial {number} ({number + 1}/5): score 0." in err
        assert f"trial {number} ({number + 1}/5): score 0." in log
    trials = [Trial.from_json(t) for t in study(finished)["trials"]]
    assert [t.number for t in trials] == list(range(5))
    for trial in trials:
        assert trial.outcome is not None
        assert trial.outcome.costs["latency"] > 0
        assert set(trial.outcome.details["accuracies"]) == {"float32", "quantized", "tuned"}


@pytest.mark.slow
def test_a_second_run_repeats_the_table_and_a_third_writes_the_report_again(
    finished: Path, forks: Forks
) -> None:
    config = str(finished / "c.yaml")
    again = forks.run("run", config, folder=finished)
    assert again.out == (finished / "stdout").read_text()
    report = finished / "run" / "report.html"
    report.unlink()
    assert forks.run("report", config, folder=finished).code == 0
    assert "The front, trained in full" in report.read_text()
    shown = forks.run("search", config, "--json", folder=finished)
    assert json.loads(shown.out)["front"]


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_as_if_it_had_not_been(
    finished: Path, forks: Forks, tmp_path: Path
) -> None:
    config = write_config(tmp_path)
    took = read_json(finished / "run" / "summary.json")["seconds"]["study"]
    rng = random.Random(time.time_ns())
    for _ in range(5):
        delay = rng.uniform(0.0, 0.4 * took)
        marker = tmp_path / "run" / "steps" / "study" / "started.json"
        code = forks.run(
            "run",
            str(config),
            folder=tmp_path,
            stop=signal.SIGKILL,
            when=marker.exists,
            delay=delay,
        ).code
        assert code in (-signal.SIGKILL, 0)
    ended = forks.run("run", str(config), folder=tmp_path)
    assert ended.code == 0, ended.err
    assert outcome(tmp_path) == outcome(finished)
    assert not half_written(tmp_path / "run")


@pytest.fixture(params=["journal", "postgres"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """What `search.study` is called: a file, or a database on a server of the test's own."""
    if request.param == "journal":
        yield str(tmp_path / "study.journal")
        return
    pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
    programs = binaries()
    if programs is None:
        pytest.skip("no PostgreSQL server here (Debian: apt-get install postgresql)")
    with running(programs) as server:
        yield server.url


@pytest.mark.slow
def test_runs_share_one_study_and_one_of_them_is_killed(shared: str, tmp_path: Path) -> None:
    config = write_config(tmp_path)
    runs = [tmp_path / "one", tmp_path / "two"]
    workers = [start_search(config, run, shared) for run in runs]
    # In the middle of a trial, wherever that is.
    logs = [run / "run.log" for run in runs]
    wait_until(lambda: any("trial " in log.read_text() for log in logs if log.exists()))
    workers[1].kill()
    errors = [worker.communicate(timeout=900)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, -signal.SIGKILL], errors
    again = start_search(config, runs[1], shared)
    assert again.wait(900) == 0
    results = [read_json(run / "steps" / "study" / "done.json")["result"] for run in runs]
    assert results[0] == results[1]
    trials = [Trial.from_json(data) for data in results[0]["trials"]]
    assert [trial.number for trial in trials] == list(range(5))
    assert {trial.state for trial in trials} == {"complete"}
    for number in range(5):
        # None was both runs'.
        assert sum(f"trial {number} (" in log.read_text() for log in logs) <= 1


def start_search(config: Path, run: Path, study: str) -> subprocess.Popen[str]:
    sets = [f"search.study={study}", f"run_dir={run}"]
    command = [sys.executable, "-m", "mpqdeploy.cli", "search", str(config)]
    for value in sets:
        command += ["--set", value]
    return subprocess.Popen(
        command,
        env={**os.environ, **ONE_THREAD},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(condition: Callable[[], bool], seconds: float = 600.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)


@pytest.mark.slow
def test_a_study_of_another_budget_is_refused_with_the_difference(
    finished: Path, forks: Forks, tmp_path: Path
) -> None:
    journal = finished / "run" / "steps" / "study" / "study.journal"
    config = write_config(tmp_path)
    sets = ["--set", f"search.study={journal}", "--set", "budgets.0.limit=70%"]
    ended = forks.run("run", str(config), "-q", *sets, folder=tmp_path)
    assert ended.code == 2
    assert "budgets" in ended.err
    assert "bytes" in ended.err


@pytest.mark.slow
def test_a_budget_that_no_trial_meets_ends_with_the_nearest(forks: Forks, tmp_path: Path) -> None:
    config = write_config(tmp_path)
    refused = forks.run("run", str(config), "-q", "--set", "budgets.0.limit=1B", folder=tmp_path)
    found = re.search(r"that one has ([0-9]+)", refused.err)
    assert found is not None, refused.err
    # The smallest network alone is inside: two trials do not find it.
    sets = ["--set", f"budgets.0.limit={found[1]}B", "--set", "search.bomp.trials=2"]
    ended = forks.run("run", str(config), "-q", "--fresh", *sets, folder=tmp_path)
    assert ended.code == 2, ended.err
    words = r"none of 2 networks meets the budget; trial [01] is the nearest: bytes [0-9.]+ % over"
    assert re.search(words, ended.err), ended.err
    assert "no network inside the budgets" in (tmp_path / "run" / "report.html").read_text()
    assert not (tmp_path / "run" / "bundle").exists()


@pytest.mark.slow
def test_a_latency_that_no_network_has_is_refused_before_the_study(
    finished: Path, forks: Forks, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True, ignore=lambda *_: ["run"])
    config = write_config(tmp_path)
    sets = ["--set", "budgets=[{metric: latency, limit: 1ns}]"]
    ended = forks.run("run", str(config), "-q", *sets, folder=tmp_path)
    assert ended.code == 2, ended.err
    assert "the latency budget of 0.001 us is below the smallest network" in ended.err
    assert not (tmp_path / "run" / "steps" / "study" / "study.journal").exists()


@pytest.mark.slow
def test_a_budget_below_the_smallest_network_is_refused(forks: Forks, tmp_path: Path) -> None:
    config = write_config(tmp_path)
    ended = forks.run("run", str(config), "-q", "--set", "budgets.0.limit=100B", folder=tmp_path)
    assert ended.code == 2, ended.err
    assert "the budget of 100 bytes is below the smallest network" in ended.err


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.name=digits_cnn", ["model.name", "'digits_cnn'", "mobile_digits"]),
        ("model.pins={head.0: 8/8}", ["model.pins", "Leave it out"]),
        ("search.exclude={head.0: [4/4]}", ["search.exclude"]),
        ("search.bomp.space.kernels=[3, 4]", ["search.bomp.space.kernels", "4"]),
        ("search.bomp.space.widths=[1.0, 1.0]", ["widths", "twice"]),
        ("search.bomp.sampler=bohb", ["bohb", "bo"]),
        ("search.bomp.objective=score", ["cost_reference"]),
        ("model.options={kernels: [3, 3]}", ["kernels", "3 stages"]),
    ],
)
def test_a_configuration_that_cannot_be_is_one_line(
    override: str, words: list[str], forks: Forks, tmp_path: Path
) -> None:
    config = write_config(tmp_path)
    ended = forks.run("run", str(config), "-q", "--set", override, folder=tmp_path)
    assert ended.code == 2, ended.err
    assert ended.err.count("\n") == 1, ended.err
    assert all(word in ended.err for word in words), ended.err
    assert not (tmp_path / "run").exists()


def test_the_plan_counts_the_space(forks: Forks, tmp_path: Path) -> None:
    ended = forks.run("run", str(write_config(tmp_path)), "--dry-run", folder=tmp_path)
    assert ended.code == 0, ended.err
    assert "5 of 3,456 networks, proposed by bo" in ended.out
    assert not (tmp_path / "run").exists()
