"""How a minimal-filtering convolution is cut up, and how its scratch is laid out."""

from __future__ import annotations

from dataclasses import dataclass

from mpqdeploy.targets.kernels.dot_inner import GROUP
from mpqdeploy.targets.kernels.geometry import Dense
from mpqdeploy.targets.kernels.prefetch import LINE
from mpqdeploy.targets.kernels.winograd.filtering import Filtering
from mpqdeploy.targets.layout import stored_channels

CHUNK_BYTES = 400_000  # of transformed inputs: with the weights' tile, within a 1 MiB cache


@dataclass(frozen=True, kw_only=True)
class WinogradTile:
    """Accumulators in registers: `tiles` tiles of the image by `vectors` of output channels."""

    tiles: int
    vectors: int

    @property
    def registers(self) -> int:
        return self.tiles * self.vectors


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Images are cut into tiles of m x m outputs, `tile.tiles` of them a block, blocks into chunks.

    One chunk's transformed inputs stay in the second-level cache while all weights pass.
    """

    geometry: Dense
    filtering: Filtering
    tile: WinogradTile
    lanes: int
    shares: int = 1

    @property
    def components(self) -> int:
        return self.filtering.n**2

    @property
    def across(self) -> int:
        """Tiles side by side."""
        return tiles_of(self.geometry, self.filtering)[0]

    @property
    def tiles(self) -> int:
        across, down = tiles_of(self.geometry, self.filtering)
        return across * down

    @property
    def blocks(self) -> int:
        return -(-self.tiles // self.tile.tiles)

    @property
    def chunks(self) -> int:
        return -(-self.blocks // self.blocks_per_chunk)

    @property
    def blocks_per_chunk(self) -> int:
        """As many as fit the cache, in chunks whose number the shares divide where it can be."""
        block_bytes = self.components * self.tile.tiles * self.channels
        least = -(-self.blocks // max(CHUNK_BYTES // block_bytes, 1))
        return -(-self.blocks // (-(-least // self.shares) * self.shares))

    @property
    def channels(self) -> int:
        """Input channels as they are stored."""
        return stored_channels(self.geometry.in_channels)

    @property
    def groups(self) -> int:
        """Groups of input channels that one dot product takes."""
        return -(-self.geometry.in_channels // GROUP)

    @property
    def codes(self) -> int:
        """Weights of one vector of output channels and one group of input channels."""
        return self.lanes * GROUP

    @property
    def weight_vectors(self) -> int:
        """Vectors of `codes` weights per tap, and per component, of an output-channel tile."""
        return self.groups * self.tile.vectors

    @property
    def input_stride(self) -> int:
        """Bytes from one component of a block's inputs to the next."""
        return _unaliased(self.tile.tiles * self.channels)

    @property
    def weight_stride(self) -> int:
        """Bytes from one component of a tile's weights to the next."""
        return _unaliased(self.weight_vectors * self.codes)


def tiles_of(geometry: Dense, filtering: Filtering) -> tuple[int, int]:
    """Tiles side by side, and one below the other."""
    return -(-geometry.out_width // filtering.m), -(-geometry.out_height // filtering.m)


def _unaliased(size: int) -> int:
    """`size`, made such that as many streams as there are components share no cache set."""
    return size + LINE if size % (8 * LINE) == 0 else size
