"""Convolutions of bits with a pixel in every bit of a vector."""

from mpqdeploy.targets.kernels.sliced.kernel import BIT_SLICED

__all__ = ["BIT_SLICED"]
