"""`Runs`: a convolution that is read by kernel rows, as one list of steps.

A kernel row of 7 pixels of 3 channels is a run of 21 bytes: five steps of four, and one byte for
which a sixth step would be three quarters on nothing. The last bytes of up to four rows are
gathered to a word, for every pixel of an output row: 5 * 7 + 2 instead of 6 * 7 steps, and
2 * 3 + 1 instead of 3 * 3 for 3 pixels of 3 channels [o].

Where every step reads lies in a table. LLVM sees that neighbouring pixels of such steps read the
same bytes, unrolls loops of few steps, and would keep in registers, or rather beside them, on the
stack, what it need not read again; it does not know what is in a table [o].
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.kernels.dot_inner import GROUP
from mpqdeploy.targets.kernels.dot_reading import Reading, words
from mpqdeploy.targets.kernels.geometry import Dense
from mpqdeploy.targets.kernels.register_tiles import AT_HAND, Tile
from mpqdeploy.targets.layout import stored_channels


@dataclass(frozen=True, kw_only=True, eq=False)
class Runs:
    """The steps of a `Reading` by kernel rows; `gathered`: whether the last bytes are."""

    reading: Reading
    gathered: bool

    @classmethod
    def of(cls, reading: Reading, tile: Tile) -> Runs | None:
        """For tiles of `tile`. None where the input is read a pixel at a time, where nothing may be
        gathered, or where weights are too many for a `RowNest`."""
        if not reading.gathering:
            return None
        rows, run = reading.geometry.kernel[0], reading.geometry.in_channels
        whole = GROUP * reading.geometry.dilation[0] % reading.geometry.stride[0] == 0
        gathered = run % GROUP == 1 and words(rows) < rows and whole and tile.rows == 1
        found = cls(reading=reading, gathered=gathered)
        codes = stored_channels(reading.geometry.out_channels) * found.steps * GROUP
        return found if codes <= AT_HAND else None

    @property
    def geometry(self) -> Dense:
        """Of what is read in place."""
        whole = self.reading.geometry
        return replace(whole, in_channels=whole.in_channels - int(self.gathered))

    @property
    def words(self) -> int:
        """Gathered words of a pixel."""
        return words(self.geometry.kernel[0]) if self.gathered else 0

    @property
    def apart(self) -> int:
        """Output rows from one to another that has the next word of the first as its own."""
        return GROUP * self.geometry.dilation[0] // self.geometry.stride[0]

    @property
    def kept(self) -> int:
        """Rows of words that a row of pixels reads besides its own."""
        return self.apart * max(self.words - 1, 0)

    @property
    def steps(self) -> int:
        """Of a pixel: first those of all kernel rows in turn, then its gathered words."""
        return self.geometry.kernel[0] * self._groups + self.words

    @property
    def weights(self) -> NDArray[np.int32]:
        """`[O, steps, 1, 4]`."""
        weights = self.reading.weights[:, :, 0]
        read, gathered = np.split(weights, [self.geometry.in_channels], axis=2)
        read = np.pad(read, ((0, 0), (0, 0), (0, -read.shape[2] % GROUP)))
        gathered = np.pad(gathered, ((0, 0), (0, -gathered.shape[1] % GROUP), (0, 0)))
        parts = (read, gathered) if self.gathered else (read,)
        return np.concatenate([p.reshape(len(p), -1, 1, GROUP) for p in parts], axis=1)

    def table(self, row: int) -> NDArray[np.int32]:
        """Where the steps in place read, from a pixel's first byte on, in rows of `row` bytes."""
        down = np.arange(self.geometry.kernel[0]) * self.geometry.dilation[0] * row
        places = down[:, None] + np.arange(self._groups) * GROUP
        return places.reshape(-1).astype(np.int32)

    @property
    def _groups(self) -> int:
        return -(-self.geometry.in_channels // GROUP)
