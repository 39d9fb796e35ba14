"""`mpqdeploy run` from a configuration to a bundle: uninterrupted, killed, and refused."""

from __future__ import annotations

import fcntl
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

import mpqdeploy
from mpqdeploy.core import Budget
from mpqdeploy.core.files import read_json
from mpqdeploy.data import DataSpec, load_dataset
from mpqdeploy.results import Row
from mpqdeploy.targets.target import NAMED
from tests.forks import ONE_THREAD, Forks
from tests.runs import STEPS, half_written, outcome, searched, write_config


@pytest.fixture
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folder of one uninterrupted run through the command line, shared by all test processes.

    One test at a time has it: some run commands in it, others copy it.
    """
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished-run"
    root.mkdir(exist_ok=True)
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / "code").exists():
            _run_once(root)
        yield root


def _run_once(root: Path) -> None:
    config = write_config(root / "c.yaml", store=root / "store.sqlite", run_dir=root / "run")
    command = [sys.executable, "-m", "mpqdeploy.cli", "run", str(config)]
    environment = {**os.environ, **ONE_THREAD}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=500)
    (root / "stdout").write_text(ended.stdout, encoding="utf-8")
    (root / "stderr").write_text(ended.stderr, encoding="utf-8")
    (root / "code").write_text(str(ended.returncode), encoding="utf-8")


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    with Forks() as server:
        yield server


def copy_run(finished: Path, folder: Path, *, keep: str | None = None) -> Path:
    """A configuration of an own run folder with the finished run's latency records.

    With `keep`, the run has every step before that one.
    """
    store = folder / "store.sqlite"
    folder.mkdir(parents=True, exist_ok=True)
    for path in finished.glob("store.sqlite*"):
        shutil.copy(path, folder / path.name)
    config = write_config(folder / "c.yaml", store=store, run_dir=folder / "run")
    if keep is not None:
        # The store's address is part of the configuration: the run is bound to this one.
        shutil.copytree(finished / "run" / "steps", folder / "run" / "steps")
        for name in STEPS[STEPS.index(keep) :]:
            shutil.rmtree(folder / "run" / "steps" / name)
        bound = (finished / "run" / "run.json").read_text(encoding="utf-8")
        bound = bound.replace(str(finished), str(folder))
        (folder / "run" / "run.json").write_text(bound, encoding="utf-8")
    return config


# --- one uninterrupted run ---------------------------------------------------------------------


def test_a_run_ends_with_a_table_a_bundle_and_a_report(finished: Path) -> None:
    stderr = (finished / "stderr").read_text()
    assert (finished / "code").read_text() == "0", stderr
    out = (finished / "stdout").read_text()
    for name in ("float32", "int8", "uniform 4/4", "searched", "onnxruntime", "95% interval"):
        assert name in out
    assert re.search(r"bytes budget .*: met", out)
    assert str(finished / "run" / "report.html") in out
    assert "Traceback" not in stderr
    assert not half_written(finished / "run")
    assert {path.name for path in (finished / "run" / "steps").iterdir()} == set(STEPS)


def test_the_summary_holds_rows_and_rounds(finished: Path) -> None:
    summary = read_json(finished / "run" / "summary.json")
    assert [row["name"] for row in summary["rows"]] == [
        "float32",
        "int8",
        "uniform 4/4",
        "searched",
    ]
    assert summary["holds"]
    budgets = tuple(Budget(**budget) for budget in summary["budgets"])
    rows = [Row.from_json(row) for row in summary["rows"]]
    assert rows[-1].inside(budgets)
    assert rows[0].bytes == 4 * rows[1].bytes
    assert all(0 <= row.accuracy <= 1 for row in rows)
    names = [turn["name"] for turn in summary["rounds"]]
    assert names[0] == "uniform 8/8"
    assert names[-1] == "shipped 1"
    for turn in summary["rounds"]:
        low, high = turn["measured"]["interval_us"]
        assert 0 < low <= turn["measured"]["median_us"] <= high
        assert turn["predicted_us"] > 0
    # The searched network fits what was counted, and is not the cheapest one: it spent the room.
    limits = {budget.metric: budget.limit for budget in budgets}
    assert rows[2].bytes < rows[-1].bytes <= limits["bytes"]


def test_the_bundle_classifies_as_the_table_says(finished: Path) -> None:
    model = mpqdeploy.load(finished / "run" / "bundle")
    limits = {"train": 256, "search": 64, "val": 64, "test": 64}
    dataset = load_dataset(DataSpec(name="digits", limit=limits))
    pixels = dataset.read("test", np.arange(dataset.size("test")))
    top = model(model.preprocess(pixels)).argmax(1)
    accuracy = float((top == dataset.labels("test")).mean())
    assert accuracy == pytest.approx(model.manifest.accuracy["top1"])
    assert accuracy > 0.3  # chance is 0.1
    assert model.manifest.certificate.holds
    assert model.manifest.requirements.target == "host"


def test_a_second_run_repeats_the_table_and_does_nothing(finished: Path, forks: Forks) -> None:
    run = finished / "run"
    before = {path: path.stat().st_mtime_ns for path in (run / "steps").rglob("*")}
    (finished / "again").mkdir(exist_ok=True)
    started = time.monotonic()
    ended = forks.run("run", str(finished / "c.yaml"), folder=finished / "again")
    seconds = time.monotonic() - started
    assert ended.code == 0, ended.err
    assert ended.out == (finished / "stdout").read_text()
    assert {path: path.stat().st_mtime_ns for path in (run / "steps").rglob("*")} == before
    longest = sum(read_json(run / "summary.json")["seconds"].values())
    assert seconds < longest


def test_a_finished_profile_is_shown_without_loading_torch(finished: Path) -> None:
    script = (
        "import sys; from mpqdeploy.cli import _exit_code; code = _exit_code(sys.argv[1:]);"
        "heavy = {'torch', 'brevitas', 'sklearn', 'scipy'} & set(sys.modules);"
        "sys.exit(f'loaded {heavy}' if heavy else code)"
    )
    command = [sys.executable, "-c", script, "profile", str(finished / "c.yaml"), "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    done = read_json(finished / "run" / "steps" / "profile" / "done.json")
    assert json.loads(ended.stdout) == done["result"]


def test_the_report_is_written_again_from_disk(finished: Path, forks: Forks) -> None:
    report = finished / "run" / "report.html"
    before = report.read_text(encoding="utf-8")
    report.unlink()
    (finished / "report").mkdir(exist_ok=True)
    ended = forks.run("report", str(finished / "c.yaml"), folder=finished / "report")
    assert ended.code == 0, ended.err
    # Plotly gives every figure a random id.
    ids = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")
    assert ids.sub("", report.read_text(encoding="utf-8")) == ids.sub("", before)


# --- killed, and run again ---------------------------------------------------------------------


def kill_in(forks: Forks, config: Path, step: str, delay: float) -> int:
    """Run until `step` has begun, kill -9 `delay` seconds later; the exit code of the run."""
    marker = config.parent / "run" / "steps" / step / "started.json"
    return forks.run(
        "run",
        str(config),
        folder=config.parent,
        stop=signal.SIGKILL,
        when=marker.exists,
        delay=delay,
    ).code


def test_killed_in_the_search_it_ends_as_if_it_had_not_been(
    finished: Path, forks: Forks, tmp_path: Path
) -> None:
    config = copy_run(finished, tmp_path, keep="search-1")
    rng = random.Random(time.time_ns())
    for _ in range(2):
        assert kill_in(forks, config, "search-1", rng.uniform(0.0, 0.6)) == -signal.SIGKILL
        assert not (tmp_path / "run" / "steps" / "search-1" / "done.json").exists()
    ended = forks.run("search", str(config), folder=tmp_path)
    assert ended.code == 0, ended.err
    assert searched(tmp_path / "run") == searched(finished / "run")
    assert not half_written(tmp_path / "run")
    log = (tmp_path / "run" / "run.log").read_text()
    assert "search-1: continues" in log
    assert "float: done before" in log


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS[1:])
def test_killed_in_any_step_it_ends_as_if_it_had_not_been(
    step: str, finished: Path, forks: Forks, tmp_path: Path
) -> None:
    took = read_json(finished / "run" / "summary.json")["seconds"][step]
    config = copy_run(finished, tmp_path, keep=step)
    delay = random.Random(time.time_ns()).uniform(0.0, 0.3 * took)  # a fork is faster: no imports
    code = kill_in(forks, config, step, delay)
    assert code in (-signal.SIGKILL, 0)  # on an idle machine the rest may be done by then
    ended = forks.run("run", str(config), folder=tmp_path)
    assert ended.code == 0, ended.err
    assert outcome(tmp_path / "run") == outcome(finished / "run"), f"killed after {delay} s"
    assert not half_written(tmp_path / "run")


@pytest.mark.slow
def test_killed_while_profiling_it_keeps_what_was_measured(forks: Forks, tmp_path: Path) -> None:
    store = tmp_path / "store.sqlite"
    config = write_config(tmp_path / "c.yaml", store=store, run_dir=tmp_path / "run")

    def measured() -> dict[str, float]:
        import sqlite3

        if not store.exists():
            return {}
        with sqlite3.connect(store) as connection:
            try:
                rows = connection.execute("select digest, median_us from kernel_latency")
                return dict(rows.fetchall())
            except sqlite3.OperationalError:  # not created yet
                return {}

    ended = forks.run(
        "profile",
        str(config),
        folder=tmp_path,
        stop=signal.SIGKILL,
        when=lambda: len(measured()) > 4,
    )
    assert ended.code == -signal.SIGKILL
    before = measured()
    ended = forks.run("run", str(config), folder=tmp_path)
    assert ended.code == 0, ended.err
    after = measured()
    assert len(after) > len(before) > 4
    assert {digest: after[digest] for digest in before} == before
    assert not half_written(tmp_path / "run")


def test_ctrl_c_is_one_line_and_the_run_can_continue(
    finished: Path, forks: Forks, tmp_path: Path
) -> None:
    config = copy_run(finished, tmp_path, keep="search-1")
    marker = tmp_path / "run" / "steps" / "search-1" / "started.json"
    ended = forks.run(
        "run", str(config), "-q", folder=tmp_path, stop=signal.SIGINT, when=marker.exists, delay=0.2
    )
    assert ended.code == 130
    assert ended.out == ""
    assert ended.err == "mpqdeploy: interrupted; run the same command again to continue\n"
    assert not (tmp_path / "run" / "steps" / "search-1" / "done.json").exists()


# --- refused -----------------------------------------------------------------------------------


def refused(forks: Forks, folder: Path, *arguments: str) -> str:
    """The only line of a command that ends with exit code 2."""
    ended = forks.run(*arguments, folder=folder)
    assert ended.code == 2, ended.err
    assert ended.out == ""
    assert ended.err.startswith("mpqdeploy: error: ")
    assert ended.err.count("\n") == 1, ended.err
    return ended.err


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("search.epoch=3", ["search.epoch", "epochs"]),
        ("model.name=resnet19", ["model.name", "resnet20"]),
        ("data.name=cifar10", ["data.dir"]),
        ("target.name=tpu", ["tpu", "host"]),
        ('budgets=[{metric: latency, limit: "3 parsecs"}]', ["limit", "3 parsecs"]),
    ],
)
def test_a_wrong_configuration_is_one_line(
    override: str, words: list[str], forks: Forks, tmp_path: Path
) -> None:
    config = write_config(
        tmp_path / "c.yaml", store=tmp_path / "s.sqlite", run_dir=tmp_path / "run"
    )
    line = refused(forks, tmp_path, "run", str(config), "--set", override)
    assert all(word in line for word in words), line
    assert not (tmp_path / "run").exists()


def test_data_that_is_not_there_is_one_line(forks: Forks, tmp_path: Path) -> None:
    config = write_config(
        tmp_path / "c.yaml", store=tmp_path / "s.sqlite", run_dir=tmp_path / "run"
    )
    missing = tmp_path / "no-data"
    sets = [f"data={{name: cifar10, dir: {missing}}}", "model={name: resnet20}"]
    line = refused(forks, tmp_path, "run", str(config), "--set", sets[0], "--set", sets[1])
    assert str(missing) in line
    assert not (tmp_path / "run").exists()


def test_another_models_checkpoint_is_one_line(
    finished: Path, forks: Forks, tmp_path: Path
) -> None:
    config = write_config(
        tmp_path / "c.yaml", store=tmp_path / "s.sqlite", run_dir=tmp_path / "run"
    )
    weights = finished / "run" / "steps" / "float" / "float.pt"
    wider = f"model={{name: digits_cnn, options: {{width: 24}}, checkpoint: {weights}}}"
    line = refused(forks, tmp_path, "run", str(config), "--set", wider)
    assert "conv1" in line  # the first that does not fit
    assert "float.pt" in line
    absent = f"model.checkpoint={tmp_path / 'absent.pt'}"
    assert "absent.pt" in refused(forks, tmp_path, "run", str(config), "--set", absent)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("limit", "least"),
    [("{metric: bytes, limit: 1kB}", r"[0-9.]+ .*B"), ("{metric: bops, limit: 5%}", r"BOPs")],
)
def test_an_unreachable_budget_names_the_least_reachable(
    limit: str, least: str, finished: Path, forks: Forks, tmp_path: Path
) -> None:
    config = copy_run(finished, tmp_path)
    line = refused(forks, tmp_path, "run", str(config), "-q", "--set", f"budgets=[{limit}]")
    assert re.search(rf"least reachable.*{least}", line), line
    assert not (tmp_path / "run" / "steps" / "search-1" / "done.json").exists()


def test_an_unreachable_latency_names_the_least_reachable(
    finished: Path, forks: Forks, tmp_path: Path
) -> None:
    config = copy_run(finished, tmp_path)
    budgets = 'budgets=[{metric: latency, limit: "0.5us"}]'
    line = refused(forks, tmp_path, "run", str(config), "-q", "--set", budgets)
    assert re.search(r"least reachable.* [0-9.]+ us", line), line
    assert not (tmp_path / "run" / "bundle").exists()


def test_another_configuration_does_not_overwrite_a_run(finished: Path, forks: Forks) -> None:
    (finished / "other").mkdir(exist_ok=True)
    line = refused(
        forks, finished / "other", "run", str(finished / "c.yaml"), "--set", "train.epochs=1"
    )
    assert "train.epochs was 2, is 1" in line
    assert json.loads((finished / "run" / "summary.json").read_text())["holds"]


def test_files_that_cannot_be_compiled_are_one_line(
    finished: Path, forks: Forks, tmp_path: Path
) -> None:
    bundle = finished / "run" / "bundle"
    out = tmp_path / "out"
    cut = tmp_path / "cut.onnx"
    cut.write_bytes((bundle / "model.qonnx.onnx").read_bytes()[:2000])
    odd = tmp_path / "odd.onnx"
    model = onnx.load(bundle / "model.qonnx.onnx")
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    relu.op_type = "Selu"
    onnx.save(model, odd)
    cases = {cut: "cut.onnx", odd: "Selu", bundle / "model.onnx": "model.onnx"}
    for path, word in cases.items():
        line = refused(forks, tmp_path, "compile", str(path), "--out", str(out), "-q")
        assert word in line, line
        assert not out.exists()
    assert relu.name in refused(forks, tmp_path, "compile", str(odd), "--out", str(out), "-q")


def test_a_tampered_bundle_is_not_measured(finished: Path, forks: Forks, tmp_path: Path) -> None:
    copy = shutil.copytree(finished / "run" / "bundle", tmp_path / "bundle")
    policy = copy / "policy.json"
    policy.write_text(policy.read_text().replace("8/8", "4/4"), encoding="utf-8")
    line = refused(forks, tmp_path, "measure", str(copy), "-q")
    assert "policy.json differs" in line
    policy.unlink()
    assert "policy.json" in refused(forks, tmp_path, "measure", str(copy), "-q")


def test_a_target_that_this_machine_is_not_is_one_line(forks: Forks, tmp_path: Path) -> None:
    absent = next((name for name, target in NAMED.items() if target.missing()), None)
    if absent is None:
        pytest.skip("this CPU has the features of every named target")
    config = write_config(
        tmp_path / "c.yaml", store=tmp_path / "s.sqlite", run_dir=tmp_path / "run"
    )
    line = refused(forks, tmp_path, "run", str(config), "--set", f"target.name={absent}")
    assert f"'{absent}' cannot run on this machine" in line
    assert NAMED[absent].missing()[0] in line
    assert not (tmp_path / "run").exists()
