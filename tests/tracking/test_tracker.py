from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mpqdeploy.config import LogSection
from mpqdeploy.core import ConfigError
from mpqdeploy.core.files import read_json
from mpqdeploy.tracking import check_trackers, open_trackers
from mpqdeploy.tracking import tracker as module
from mpqdeploy.tracking.scalars import scalars
from tests.tracking.epochs import epoch


def test_nothing_is_asked_for_by_default(tmp_path: Path) -> None:
    with open_trackers(LogSection(), tmp_path, {}) as trackers:
        assert trackers == []
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("section", "key", "extra"),
    [
        (LogSection(tensorboard=True), "tensorboard", "log"),
        (LogSection(mlflow="http://server"), "mlflow", "mlflow"),
    ],
)
def test_a_package_that_is_not_installed_is_named_with_its_extra(
    section: LogSection, key: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=rf"log\.{key}: .* not installed") as caught:
        check_trackers(section)
    assert f"mpqdeploy[{extra}]" in caught.value.hint


def test_tensorboard_files_lie_in_the_runs_folder(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    with open_trackers(LogSection(tensorboard=True), tmp_path, {}) as (one,):
        one.epoch("search-1", epoch())
    assert list((tmp_path / "tensorboard" / "search-1" / "round-0").glob("events*"))


class Server:
    """As much of an MLflow server as the tracker asks for."""

    def __init__(self) -> None:
        self.metrics: list[tuple[str, float, int]] = []
        self.params: dict[str, str] = {}
        self.calls: list[str] = []

    def module(self) -> dict[str, ModuleType]:
        class Record(tuple[Any, ...]):
            def __new__(cls, *values: Any) -> Record:
                return super().__new__(cls, values)

        top, entities, exceptions = (
            ModuleType(name) for name in ("mlflow", "mlflow.entities", "mlflow.exceptions")
        )
        top.MlflowClient = lambda tracking_uri: self  # type: ignore[attr-defined]
        entities.Metric = entities.Param = Record  # type: ignore[attr-defined]
        exceptions.MlflowException = type("MlflowException", (Exception,), {})  # type: ignore[attr-defined]
        return {m.__name__: m for m in (top, entities, exceptions)}

    def get_experiment_by_name(self, name: str) -> None:
        self.calls.append(f"experiment {name}")

    def create_experiment(self, name: str) -> str:
        return "7"

    def create_run(self, experiment: str, run_name: str) -> Any:
        self.calls.append(f"run {run_name} in {experiment}")
        run = ModuleType("run")
        run.info = ModuleType("info")  # type: ignore[attr-defined]
        run.info.run_id = "r1"
        return run

    def update_run(self, run: str, status: str) -> None:
        self.calls.append(f"{run} {status}")

    def set_terminated(self, run: str) -> None:
        self.calls.append(f"{run} ended")

    def log_batch(self, run: str, metrics: Any = (), params: Any = ()) -> None:
        self.metrics += [(key, value, step) for key, value, _, step in metrics]
        self.params.update(params)


def test_mlflow_gets_every_scalar_and_a_killed_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server()
    monkeypatch.delitem(sys.modules, "mpqdeploy.tracking.mlflow", raising=False)
    for name, fake in server.module().items():
        monkeypatch.setitem(sys.modules, name, fake)
    monkeypatch.setattr(module, "find_spec", lambda name: object())
    section = LogSection(mlflow="http://server")
    for number in (1, 2):
        with open_trackers(section, tmp_path, {"model": {"name": "net"}, "seed": 3}) as (one,):
            one.epoch("search-1", epoch(number))
    assert server.params == {"model.name": "net", "seed": "3"}
    expected = [(t, v, n) for n in (1, 2) for t, v in scalars(epoch(n)).items()]
    assert server.metrics == expected
    assert server.calls == [
        "experiment mpqdeploy",
        f"run {tmp_path.name} in 7",
        "r1 ended",
        "r1 RUNNING",
        "r1 ended",
    ]
    assert read_json(tmp_path / "mlflow.json")["step"] == 2
    monkeypatch.delitem(sys.modules, "mpqdeploy.tracking.mlflow", raising=False)
