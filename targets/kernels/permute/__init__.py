"""Dense convolutions with 1- and 2-bit weights by byte permutes of whole registers (VBMI)."""

from mpqdeploy.targets.kernels.permute.kernel import PermuteKernel
from mpqdeploy.targets.kernels.permute.micro import Gather, Vpermb

PERMUTE = PermuteKernel(Vpermb())

__all__ = ["PERMUTE", "Gather", "PermuteKernel", "Vpermb"]
