"""The registry: every kernel the compiler may choose, preferred ones first.

The order decides only where nothing was measured. A new kernel is one file beside these and one
line here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mpqdeploy.targets.kernels.base import Kernel
from mpqdeploy.targets.kernels.depthwise import Depthwise
from mpqdeploy.targets.kernels.direct import Direct
from mpqdeploy.targets.kernels.dot import DOT_KERNELS, DOT_VBMI
from mpqdeploy.targets.kernels.elementwise import Elementwise
from mpqdeploy.targets.kernels.float_conv import FloatConvolution
from mpqdeploy.targets.kernels.float_given import GivenKernel
from mpqdeploy.targets.kernels.float_matmul import MatMulKernel
from mpqdeploy.targets.kernels.float_norm import NormalizationKernel
from mpqdeploy.targets.kernels.float_pool import FloatPooling, SoftmaxKernel
from mpqdeploy.targets.kernels.lookup import LOOKUP
from mpqdeploy.targets.kernels.permute import PERMUTE
from mpqdeploy.targets.kernels.pool import Pooling
from mpqdeploy.targets.kernels.popcount import CARRY_SAVE, PAIRED, POPCOUNT
from mpqdeploy.targets.kernels.sliced import BIT_SLICED
from mpqdeploy.targets.kernels.tiles import DOT_AMX
from mpqdeploy.targets.kernels.winograd import WINOGRAD_KERNELS, WINOGRAD_VBMI

KERNELS: tuple[Kernel, ...] = (
    BIT_SLICED,
    CARRY_SAVE,
    *WINOGRAD_KERNELS,
    *DOT_KERNELS,
    LOOKUP,
    POPCOUNT,
    Depthwise(),
    Direct(),
    Pooling(),
    Elementwise(),
    FloatConvolution(),
    FloatPooling(),
    SoftmaxKernel(),
    NormalizationKernel(),
    MatMulKernel(),
    GivenKernel(),
)

# Those that need more of a CPU than its level has, by the features as LLVM spells them: preferred
# to the common ones, and others. Every CPU with tiles looks bytes up, too.
PREFERRED: Mapping[tuple[str, ...], tuple[Kernel, ...]] = {
    ("amx-int8", "avx512vbmi"): (DOT_AMX,),
    ("avx512vpopcntdq",): (PAIRED,),
}
SPECIAL: Mapping[tuple[str, ...], tuple[Kernel, ...]] = {("avx512vbmi",): (PERMUTE,)}

# The same kernels, by their name, whose epilogues look bytes up where the CPU does.
VBMI = "avx512vbmi"
LOOKING_UP: Mapping[str, Kernel] = {kernel.name: kernel for kernel in (DOT_VBMI, WINOGRAD_VBMI)}


def kernels_for(features: Iterable[str]) -> tuple[Kernel, ...]:
    """The kernels of a target with these features beyond its level's."""
    given = frozenset(features)
    preferred, special = (
        [
            kernel
            for needed, kernels in table.items()
            if given.issuperset(needed)
            for kernel in kernels
        ]
        for table in (PREFERRED, SPECIAL)
    )
    common = KERNELS
    if VBMI in given:
        common = tuple(LOOKING_UP.get(kernel.name, kernel) for kernel in KERNELS)
    return (*preferred, *common, *special)


def every_kernel() -> tuple[Kernel, ...]:
    """The kernels of a target that has all features, the common ones as every CPU of their level
    runs them."""
    tables = (PREFERRED, SPECIAL)
    needing = [kernel for table in tables for some in table.values() for kernel in some]
    return (*needing, *KERNELS)


def versions() -> list[list[str | int]]:
    """Names and versions of all kernels: what a stored latency depends on, their order does not."""
    return sorted([kernel.name, kernel.version] for kernel in every_kernel())


__all__ = ["KERNELS", "Kernel", "every_kernel", "kernels_for", "versions"]
