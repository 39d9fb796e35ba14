"""MLflow: one of its runs per run folder."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

from mpqdeploy.core import ConfigError
from mpqdeploy.core.files import read_json, write_json
from mpqdeploy.search.engine import Epoch
from mpqdeploy.tracking.scalars import scalars

EXPERIMENT = "mpqdeploy"
FILE = "mlflow.json"
AT_ONCE = 100
"""Parameters that MLflow takes in one call."""


class Mlflow:
    """Metrics of the `scalars`, steps counted over all searches; the configuration as parameters.

    `folder`, the run's, remembers which MLflow run it is and how many steps that has, so a run that
    was killed continues its own.
    """

    def __init__(self, uri: str, folder: Path, params: Mapping[str, Any]) -> None:
        self._uri = uri
        self._file = folder / FILE
        with self._reached():
            self._client = MlflowClient(tracking_uri=uri)
            self._run, self._step = self._earlier() or self._begin(folder.name, params)
        self._remember()

    def epoch(self, search: str, epoch: Epoch) -> None:
        """See `Tracker.epoch`."""
        self._step += 1
        now = round(1000 * time.time())
        metrics = [Metric(tag, v, now, self._step) for tag, v in scalars(epoch).items()]
        with self._reached():
            self._client.log_batch(self._run, metrics=metrics)
        self._remember()

    def close(self) -> None:
        with self._reached():
            self._client.set_terminated(self._run)

    def _earlier(self) -> tuple[str, int] | None:
        if not self._file.exists():
            return None
        state = read_json(self._file)
        if state["uri"] != self._uri:
            return None
        self._client.update_run(state["run"], status="RUNNING")
        return state["run"], state["step"]

    def _begin(self, name: str, params: Mapping[str, Any]) -> tuple[str, int]:
        found = self._client.get_experiment_by_name(EXPERIMENT)
        experiment = found.experiment_id if found else self._client.create_experiment(EXPERIMENT)
        run = str(self._client.create_run(experiment, run_name=name).info.run_id)
        given = [Param(key, str(value)) for key, value in _flat(params)]
        for start in range(0, len(given), AT_ONCE):
            self._client.log_batch(run, params=given[start : start + AT_ONCE])
        return run, 0

    def _remember(self) -> None:
        write_json(self._file, {"uri": self._uri, "run": self._run, "step": self._step})

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except MlflowException as error:
            raise ConfigError(
                f"log.mlflow: {self._uri} cannot be used: {str(error).splitlines()[0]}",
                hint="Give the address of a server or sqlite:///FILE; the same command continues.",
            ) from error


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
