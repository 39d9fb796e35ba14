"""`Isa`: the instruction-set levels that kernels are written for."""

from __future__ import annotations

from enum import StrEnum


class Isa(StrEnum):
    """An x86-64 feature level, or plain vector code for any other CPU."""

    VNNI = "vnni"  # AVX-512 with vpdpbusd
    AVX2 = "avx2"
    PORTABLE = "portable"

    @property
    def lanes(self) -> int:
        """int32 lanes of one vector register."""
        return {Isa.VNNI: 16, Isa.AVX2: 8, Isa.PORTABLE: 4}[self]
