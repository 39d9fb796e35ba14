from __future__ import annotations

import json

import pytest

from mpqdeploy.targets import doctor as checks
from mpqdeploy.ui import Ui
from mpqdeploy.verbs.machine import doctor, list_targets


def test_this_machine_is_a_target_with_kernels(capsys: pytest.CaptureFixture[str]) -> None:
    list_targets(Ui(as_json=True))
    found = json.loads(capsys.readouterr().out)
    assert found[0]["name"] == "host"
    assert found[0]["runs_here"]
    assert all(names for target in found for names in target["kernels"].values())
    list_targets(Ui())
    assert "x86-64-avx2" in capsys.readouterr().out


def test_the_doctor_fails_where_something_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = checks.Check(name="numpy", status="ok", found="2.4")
    bad = checks.Check(name="linker", status="fail", found="none", advice="Install one.")
    monkeypatch.setattr("mpqdeploy.verbs.machine.diagnose", lambda: [good])
    assert doctor(Ui())
    monkeypatch.setattr("mpqdeploy.verbs.machine.diagnose", lambda: [good, bad])
    assert not doctor(Ui())
    assert "linker: Install one." in capsys.readouterr().out
    assert not doctor(Ui(as_json=True))
    assert json.loads(capsys.readouterr().out)[1]["advice"] == "Install one."
