"""Training progress on the user's screen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mpqdeploy.nn.training import Progress
from mpqdeploy.nn.training.loop import OnProgress
from mpqdeploy.ui import Ui


@contextmanager
def following(ui: Ui, label: str, epochs: int, steps: int) -> Iterator[OnProgress]:
    """A callback for `train` that moves a bar over all epochs."""
    with ui.task(label, epochs * steps) as task:

        def on_step(progress: Progress) -> None:
            done = (progress.epoch - 1) * progress.steps + progress.step
            task.reach(
                done,
                f"epoch {progress.epoch}/{progress.epochs} loss {progress.loss:.3f} "
                f"right {100 * progress.accuracy:.1f} %",
            )

        yield on_step
