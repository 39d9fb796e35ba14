from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mpqdeploy import cli
from mpqdeploy.core import BudgetError


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def pretend(monkeypatch: pytest.MonkeyPatch, pipeline: Callable[..., Any]) -> None:
    """Put a function in the place of `mpqdeploy.pipeline.run`."""
    monkeypatch.setitem(sys.modules, "mpqdeploy.pipeline", SimpleNamespace(run=pipeline))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "c.yaml"
    assert run("init", str(path)) == 0
    return path


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    assert run("--help") == 0
    out = capsys.readouterr().out
    verbs = "run init profile search export compile verify measure report targets doctor"
    assert all(verb in out for verb in verbs.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnu"], "No such command 'rnu'"),
        (["run"], "Missing argument 'CONFIG'"),
        (["run", "c.yaml", "--fast"], "No such option: --fast"),
        (["compile", "m.onnx"], "Missing option '--out'"),
        (["run", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["verify", "m.onnx", "dir", "--samples", "0"], "Invalid value for '--samples'"),
    ],
)
def test_a_users_mistake_is_one_line_and_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("mpqdeploy: error: ")
    assert message in err
    assert err.count("\n") == 1


def test_overrides_and_options_reach_the_pipeline(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}
    pretend(monkeypatch, lambda config, **rest: seen.update(rest, config=config))
    assert run("run", str(config), "--set", "seed=3", "--set", "train.lr=1e-2", "--fresh") == 0
    assert (seen["config"].seed, seen["config"].train.lr) == (3, 0.01)
    assert (seen["fresh"], seen["dry_run"], seen["until"]) == (True, False, None)
    assert run("search", str(config), "--dry-run", "--json") == 0
    assert (seen["dry_run"], seen["until"], seen["ui"].as_json) == (True, "search", True)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (BudgetError("too small.", hint="At\nleast 3 us."), 2, "error: too small. At least 3 us."),
        (KeyboardInterrupt(), 130, "interrupted; run the same command again to continue"),
    ],
)
def test_errors_and_interrupts_are_one_line(
    config: Path,
    error: BaseException,
    code: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    pretend(monkeypatch, fail)
    capsys.readouterr()
    assert run("run", str(config)) == code
    assert capsys.readouterr().err == f"mpqdeploy: {line}\n"


def test_a_defect_keeps_its_traceback(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["run", str(config)])


def test_ctrl_c_ends_a_process_with_130() -> None:
    code = (
        "import time\nfrom mpqdeploy import cli\n"
        "def wait():\n    print('ready', flush=True)\n    time.sleep(60)\n"
        "cli.app.command('wait')(wait)\ncli.main(['wait'])"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err == "mpqdeploy: interrupted; run the same command again to continue\n"


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom mpqdeploy import cli\n"
        "try:\n    cli.main(['run', '--help'])\nexcept SystemExit:\n"
        "    print({'torch', 'tvm', 'onnx', 'yaml', 'sklearn'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.endswith("set()\n")
