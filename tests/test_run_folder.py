from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mpqdeploy.core import ConfigError
from mpqdeploy.run_folder import SCRATCH, Done, RunFolder
from mpqdeploy.run_lock import LockedError
from tests.run_folder_script import main


class Counter:
    """Work that remembers its calls."""

    def __init__(self, result: Any = None) -> None:
        self.calls = 0
        self.result = result

    def __call__(self, folder: Path) -> Any:
        self.calls += 1
        (folder / "out.txt").write_text(f"{self.result}")
        return self.result


def test_a_finished_step_is_read_from_disk(tmp_path: Path) -> None:
    work = Counter({"a": [1, 2.5, "x"], "b": None})
    for _ in range(2):
        with RunFolder(tmp_path / "run") as run:
            run.claim({"seed": 1})
            done = run.step("one", {"seed": 1}, work)
        assert done.result == {"a": [1, 2.5, "x"], "b": None}
        assert (done.folder / "out.txt").is_file()
    assert work.calls == 1
    assert "one" in RunFolder(tmp_path / "run").seconds()


def test_what_builds_on_a_change_runs_again_and_nothing_else(tmp_path: Path) -> None:
    def chain(seed: int, result: int) -> tuple[Counter, ...]:
        works = (Counter(result), Counter("mid"), Counter("end"), Counter("aside"))
        with RunFolder(tmp_path / "run") as run:
            run.claim({})
            first = run.step("first", {"seed": seed}, works[0])
            middle = run.step("middle", {"first": first}, works[1])
            run.step("last", {"middle": middle, "first": first}, works[2])
            run.step("aside", {"path": Path("x")}, works[3])
        return works

    assert [work.calls for work in chain(1, 10)] == [1, 1, 1, 1]
    assert [work.calls for work in chain(1, 10)] == [0, 0, 0, 0]
    assert [work.calls for work in chain(2, 20)] == [1, 1, 1, 0]


@pytest.mark.parametrize("damage", ["alter", "remove", "record"])
def test_a_step_whose_files_changed_runs_again(tmp_path: Path, damage: str) -> None:
    work = Counter(1)
    with RunFolder(tmp_path / "run") as run:
        done = run.step("one", {}, work)
        assert run.state("one", {}) == "done"
        if damage == "alter":
            (done.folder / "out.txt").write_text("altered")
        elif damage == "remove":
            (done.folder / "out.txt").unlink()
        else:
            (done.folder / "done.json").write_text('{"inputs": "cut sh')
        assert run.state("one", {}) != "done"
        run.step("one", {}, work)
    assert work.calls == 2
    assert (done.folder / "out.txt").read_text() == "1"


def test_states(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    assert run.state("one", {"seed": 1}) == "missing"
    assert not (tmp_path / "run").exists()  # asking writes nothing
    with run, pytest.raises(ZeroDivisionError):
        run.step("one", {"seed": 1}, lambda folder: 1 / 0)
    assert run.state("one", {"seed": 1}) == "unfinished"
    assert run.state("one", {"seed": 2}) == "stale"


def test_scratch_outlives_a_failure_and_not_the_step(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / SCRATCH).mkdir()
        (folder / SCRATCH / "state").write_text("half")
        raise KeyboardInterrupt

    def finish(folder: Path) -> str:
        return (folder / SCRATCH / "state").read_text()

    with RunFolder(tmp_path / "run") as run:
        with pytest.raises(KeyboardInterrupt):
            run.step("one", {}, fail)
        done: Done = run.step("one", {}, finish)
        assert done.result == "half"
        assert not (done.folder / SCRATCH).exists()
        with pytest.raises(KeyboardInterrupt):
            run.step("two", {"seed": 1}, fail)
        with pytest.raises(FileNotFoundError):  # other inputs: nothing is taken over
            run.step("two", {"seed": 2}, finish)


def test_a_killed_run_continues_where_it_stood(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.run_folder_script", str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        for line in killed.stdout:
            if line.startswith("counted 3"):
                killed.kill()
                break
    assert killed.returncode == -9
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "counted 2" not in result.stdout
    assert result.stdout.endswith("end [5]\n")
    main(tmp_path / "whole")
    for name in ("first", "second", "third"):
        one, other = (
            RunFolder(tmp_path / folder).step(name, _inputs(tmp_path / folder, name), _never)
            for folder in ("run", "whole")
        )
        assert one.hash == other.hash


def _inputs(path: Path, name: str) -> dict[str, Any]:
    if name == "first":
        return {"seed": 1}
    before = {"second": "first", "third": "second"}[name]
    return {before: RunFolder(path).step(before, _inputs(path, before), _never)}


def _never(folder: Path) -> None:
    raise AssertionError("the step is done")


def test_another_configuration_is_refused_with_the_difference(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run") as run:
        run.claim({"seed": 1, "train": {"lr": 0.1, "epochs": 3}})
        run.claim({"seed": 1, "train": {"lr": 0.1, "epochs": 3}})
        changed = {"seed": 2, "train": {"lr": 0.1, "epochs": 4}}
        message = r"seed was 1, is 2; train\.epochs was 3, is 4\. .*run_dir.*--fresh"
        with pytest.raises(ConfigError, match=message):
            run.claim(changed)
        run.step("one", {}, Counter(1))
        (tmp_path / "run" / "mine.txt").write_text("kept")
        (tmp_path / "run" / "tensorboard").mkdir()
        run.claim(changed, fresh=True)
        assert run.state("one", {}) == "missing"
        assert not (tmp_path / "run" / "tensorboard").exists()
        assert (tmp_path / "run" / "mine.txt").exists()
        run.check(changed)


@pytest.mark.parametrize("name", ["data.bin", "config.json", "run.json"])
def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(ConfigError, match="not empty and no run's folder"), RunFolder(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with pytest.raises(ConfigError, match="is a file"), RunFolder(tmp_path / name):
        pass


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run"), pytest.raises(LockedError, match=r"process [0-9]+"):
        RunFolder(tmp_path / "run").__enter__()
    with RunFolder(tmp_path / "run") as run:
        run.claim({})


def test_a_run_that_came_to_nothing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError), RunFolder(tmp_path / "deep" / "run"):
        raise ConfigError("no such data")
    assert not (tmp_path / "deep" / "run").exists()


def test_the_log_has_a_line_per_event(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run") as run:
        run.claim({})
        run.step("one", {}, Counter(1))
        run.log("a word")
    lines = (tmp_path / "run" / "run.log").read_text().splitlines()
    assert [line.split(" ", 1)[1].split(" in ")[0] for line in lines] == [
        "one: starts",
        "one: done",
        "a word",
    ]


def test_names_of_steps_stay_inside_the_folder(tmp_path: Path) -> None:
    for name in ("../out", "a/b", "", "A"):
        with pytest.raises(ValueError, match="no name of a step"):
            RunFolder(tmp_path).state(name, {})
