"""`Shard`: one process's part of every batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from mpqdeploy.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Part `rank`, counted from 0, of `count` equal ones."""

    rank: int = 0
    count: int = 1

    def of(self, rows: NDArray[Any]) -> NDArray[Any]:
        """This part of a batch's rows. The parts are disjoint, and together are the batch.

        Raises `ConfigError` where they cannot be equal: the mean over processes would then not be
        the mean over the batch.
        """
        if len(rows) % self.count:
            raise ConfigError(
                f"a batch of {len(rows)} images cannot be cut into {self.count} equal parts.",
                hint="Give a batch_size that is a multiple of the number of processes.",
            )
        part = len(rows) // self.count
        return rows[self.rank * part : (self.rank + 1) * part]


WHOLE = Shard()
