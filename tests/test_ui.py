from __future__ import annotations

import json

import pytest

from mpqdeploy import ui as module
from mpqdeploy.ui import Ui


def test_stdout_holds_one_json_document(capsys: pytest.CaptureFixture[str]) -> None:
    ui = Ui(as_json=True)
    ui.note("a note")
    ui.table("title", ["a", "b"], [["1", "2"]])
    ui.say("a line")
    ui.result({"x": [1, 2]})
    out, err = capsys.readouterr()
    assert json.loads(out) == {"x": [1, 2]}
    assert "a note" in err


def test_people_get_the_table_and_no_json(capsys: pytest.CaptureFixture[str]) -> None:
    ui = Ui()
    row = ["a name with [brackets]", "x" * 120]
    ui.table("title", ["name", "value"], [row])
    ui.result({"x": 1})
    out, _ = capsys.readouterr()
    assert all(cell in out for cell in row)
    assert '"x"' not in out


def test_quiet_leaves_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    ui = Ui(quiet=True)
    with ui.step("profile"), ui.task("sites", 3) as task:
        task.advance()
    ui.warn("over budget")
    assert capsys.readouterr().err == "warning: over budget\n"


def test_progress_makes_lines_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PLAIN_INTERVAL_S", 0.0)
    ui = Ui()
    with ui.step("profile"), ui.task("sites", 3) as task:
        task.advance()
        task.reach(3, "loss 0.5")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "profile ..."
    assert lines[1:3] == ["  sites: 1/3", "  sites: 3/3 loss 0.5"]
    assert lines[3].startswith("profile: done in")
