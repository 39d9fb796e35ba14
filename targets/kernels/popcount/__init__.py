"""Convolutions of 1- and 2-bit codes as population counts of 32-channel words."""

from mpqdeploy.targets.kernels.popcount.carry_save import CARRY_SAVE
from mpqdeploy.targets.kernels.popcount.paired import PAIRED
from mpqdeploy.targets.kernels.popcount.plain import POPCOUNT

__all__ = ["CARRY_SAVE", "PAIRED", "POPCOUNT"]
