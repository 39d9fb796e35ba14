"""MLflow's own client on a database in a file; skipped where MLflow is not installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpqdeploy.core import ConfigError
from tests.tracking.epochs import epoch

pytest.importorskip("mlflow")
pytest.importorskip("alembic")

from mlflow import MlflowClient

from mpqdeploy.tracking.mlflow import EXPERIMENT, Mlflow
from mpqdeploy.tracking.scalars import scalars

PARAMS = {"model": {"name": "resnet20"}, "seed": 0}


def test_metrics_parameters_and_a_run_that_goes_on(tmp_path: Path) -> None:
    uri, folder = f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "run"
    tracker = Mlflow(uri, folder, PARAMS)
    tracker.epoch("search-1", epoch(1))
    tracker.close()
    again = Mlflow(uri, folder, PARAMS)
    again.epoch("search-1", epoch(2))
    again.close()
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "run"
    assert run.info.status == "FINISHED"
    assert run.data.params == {"model.name": "resnet20", "seed": "0"}
    assert run.data.metrics == scalars(epoch(2))
    history = client.get_metric_history(run.info.run_id, "loss/train_ce")
    assert [(m.step, m.value) for m in history] == [(1, 2.0), (2, 1.0)]


def test_another_address_gets_a_run_of_its_own(tmp_path: Path) -> None:
    for name in ("one", "two"):
        Mlflow(f"sqlite:///{tmp_path / name}.db", tmp_path, PARAMS).epoch("search-1", epoch())
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'two'}.db")
    experiment = client.get_experiment_by_name(EXPERIMENT)
    (run,) = client.search_runs([experiment.experiment_id])
    assert [m.step for m in client.get_metric_history(run.info.run_id, "accuracy/val")] == [1]


def test_an_address_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"log\.mlflow: nonsense://x cannot be used"):
        Mlflow("nonsense://x", tmp_path, PARAMS)
