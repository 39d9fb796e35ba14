"""TensorBoard event files."""

from __future__ import annotations

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from mpqdeploy.search.engine import Epoch
from mpqdeploy.tracking.scalars import scalars


class TensorBoard:
    """One of TensorBoard's runs per search and round, `<folder>/<search>/round-<n>`.

    A search that was killed and continues writes another file there. An epoch that both files have
    is shown once: the second one purges what follows its first step.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writers: dict[Path, SummaryWriter] = {}

    def epoch(self, search: str, epoch: Epoch) -> None:
        """See `Tracker.epoch`."""
        place = self._folder / search / f"round-{epoch.round}"
        if place not in self._writers:
            self._writers[place] = SummaryWriter(str(place), purge_step=epoch.epoch)
        writer = self._writers[place]
        for tag, value in scalars(epoch).items():
            writer.add_scalar(tag, value, epoch.epoch)
        writer.flush()

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()
