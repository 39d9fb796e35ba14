"""Dense convolutions of bytes by products of whole tiles (AMX)."""

from mpqdeploy.targets.kernels.tiles.kernel import TileKernel
from mpqdeploy.targets.kernels.tiles.micro import Amx, PlainTiles

DOT_AMX = TileKernel(Amx())

__all__ = ["DOT_AMX", "Amx", "PlainTiles", "TileKernel"]
