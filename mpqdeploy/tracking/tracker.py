"""The `Tracker` seam, and which trackers a configuration asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from mpqdeploy.config import LogSection
from mpqdeploy.core import ConfigError
from mpqdeploy.search.engine import Epoch


class Tracker(Protocol):
    """Takes a search's epochs in the order in which they end."""

    def epoch(self, search: str, epoch: Epoch) -> None:
        """One epoch of the search of that name; what it writes is readable when it returns."""
        ...

    def close(self) -> None: ...


def check_trackers(section: LogSection) -> None:
    """Raises `ConfigError` where a tracker is asked for whose package is not installed."""
    wanted = {"tensorboard": section.tensorboard, "mlflow": section.mlflow is not None}
    for package, asked in wanted.items():
        if asked and find_spec(package) is None:
            raise ConfigError(
                f"log.{package}: the package {package} is not installed.",
                hint=f"pip install 'mpqdeploy[{EXTRAS[package]}]', or leave the key out.",
            )


EXTRAS = {"tensorboard": "log", "mlflow": "mlflow"}
"""Which of the project's extras brings which package."""


@contextmanager
def open_trackers(
    section: LogSection, folder: Path, params: Mapping[str, Any]
) -> Iterator[Sequence[Tracker]]:
    """The trackers asked for, closed afterwards; local files go into `folder`, a run's.

    `params` is what the run was told, for trackers that keep it. Raises `ConfigError`.
    """
    check_trackers(section)
    with ExitStack() as stack:
        trackers: list[Tracker] = []
        if section.tensorboard:
            from mpqdeploy.tracking.tensorboard import TensorBoard

            trackers.append(TensorBoard(folder / "tensorboard"))
        if section.mlflow is not None:
            from mpqdeploy.tracking.mlflow import Mlflow

            trackers.append(Mlflow(section.mlflow, folder, params))
        for tracker in trackers:
            stack.callback(tracker.close)
        yield trackers
