"""`Target`: a kind of machine to compile for, and which precisions have a real kernel there."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mpqdeploy.core import Geometry, Precision, TargetError, parse_precisions
from mpqdeploy.targets.fingerprint import cpu_flags
from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.permission import tiles_permitted
from mpqdeploy.targets.threads import processors

DEFAULT_PRECISIONS = parse_precisions(("8/8", "4/8", "4/4", "2/2", "1/2", "1/1"))

# What LLVM may emit for each level's `mcpu` below, as /proc/cpuinfo spells it.
_V3 = ("avx", "avx2", "fma", "bmi1", "bmi2", "f16c", "abm", "movbe", "popcnt", "sse4_2")
_AVX512 = ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
REQUIRED: Mapping[Isa, tuple[str, ...]] = {
    Isa.VNNI: (*_V3, *_AVX512, "avx512_vnni"),
    Isa.AVX2: _V3,
    Isa.PORTABLE: (),
}
_MCPU = {Isa.VNNI: "cascadelake", Isa.AVX2: "haswell", Isa.PORTABLE: "x86-64"}

# Features above the VNNI level that LLVM uses where it has them: /proc/cpuinfo name -> LLVM's.
_EXTRA = {
    "avx512ifma": "avx512ifma",
    "avx512vbmi": "avx512vbmi",
    "avx512_vbmi2": "avx512vbmi2",
    "avx512_bitalg": "avx512bitalg",
    "avx512_vpopcntdq": "avx512vpopcntdq",
    "gfni": "gfni",
    "amx_tile": "amx-tile",
    "amx_int8": "amx-int8",
}
TILES = frozenset(("amx_tile", "amx_int8"))

REPRESENTATIVE = Geometry(
    op="conv",
    in_channels=64,
    out_channels=64,
    in_size=(8, 8),
    kernel=(3, 3),
    padding=(1, 1, 1, 1),
)


@dataclass(frozen=True, kw_only=True)
class Target:
    """A machine to compile for.

    `cpu` and `features` are LLVM's `mcpu` and the features beyond it. `threads` is how many threads
    a network uses there. `processor` is the architecture as `platform.machine()` names it.
    """

    name: str
    isa: Isa
    cpu: str
    features: tuple[str, ...] = ()
    threads: int = 1
    processor: str = "x86_64"

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """The candidates to search over unless the user names others."""
        return DEFAULT_PRECISIONS

    @property
    def key(self) -> str:
        """Everything that can change the code or its time, in one line, for stored records."""
        extra = "".join(f"+{feature}" for feature in self.features)
        return f"{self.isa}:{self.cpu}{extra}:{self.threads}"

    def tvm_target(self) -> Any:
        """The `tvm.target.Target` to build for."""
        from tvm.target import Target as TvmTarget

        options: dict[str, Any] = {"kind": "llvm", "mcpu": self.cpu, "num-cores": self.threads}
        if self.features:
            options["mattr"] = [f"+{feature}" for feature in self.features]
        return TvmTarget(options)

    @property
    def required(self) -> tuple[str, ...]:
        """CPU features that the target's code uses, as /proc/cpuinfo spells them."""
        spelled = {llvm: flag for flag, llvm in _EXTRA.items()}
        return (*REQUIRED[self.isa], *(spelled[feature] for feature in self.features))

    def missing(self) -> tuple[str, ...]:
        """CPU features that the target needs and this machine lacks."""
        if _processor() != self.processor:
            return (self.processor,)
        flags = usable_flags()
        return tuple(flag for flag in self.required if flag not in flags)

    def require_here(self) -> None:
        """Raise `TargetError` unless this machine can run the target's code."""
        missing = self.missing()
        if missing:
            raise TargetError(
                f"target {self.name!r} cannot run on this machine: its CPU lacks {missing[0]}.",
                hint=f"Use --target host (here {host().isa}), or run where the CPU has it.",
            )


def host() -> Target:
    """This machine: its level from the CPU's feature flags.

    The flags decide, not the CPU's name: a hypervisor may hide features that the name implies.
    """
    if _processor() != "x86_64":
        return Target(name="host", isa=Isa.PORTABLE, cpu=_llvm_cpu(), processor=platform.machine())
    flags = usable_flags()
    isa = next(isa for isa in Isa if flags.issuperset(REQUIRED[isa]))
    extra = tuple(llvm for flag, llvm in _EXTRA.items() if flag in flags)
    return Target(name="host", isa=isa, cpu=_MCPU[isa], features=extra if isa is Isa.VNNI else ())


# Ice Lake and Zen 4, and what came after; Sapphire Rapids.
_VBMI = ("avx512vbmi", "avx512vbmi2", "avx512bitalg", "avx512vpopcntdq")
_AMX = (*_VBMI, "amx-tile", "amx-int8")
NAMED: Mapping[str, Target] = {
    name: Target(name=name, isa=isa, cpu=_MCPU[isa], features=features)
    for name, isa, features in (
        ("x86-64-amx", Isa.VNNI, _AMX),
        ("x86-64-vbmi", Isa.VNNI, _VBMI),
        ("x86-64-vnni", Isa.VNNI, ()),
        ("x86-64-avx2", Isa.AVX2, ()),
        ("x86-64", Isa.PORTABLE, ()),
    )
}


def load_target(name: str, threads: int = 1) -> Target:
    """`"host"` or a name in `NAMED`, for `threads` threads.

    Raises `TargetError` for any other name, and where this machine has fewer processors for them.

    Compiling for a target that is not this machine is fine; `require_here` is asked when it runs.
    """
    if name == "host":
        if threads > len(processors()):
            raise TargetError(
                f"{threads} threads are more than the {len(processors())} processors that this "
                "process may use.",
                hint="Ask for fewer: threads that share a processor wait for each other.",
            )
        return replace(host(), threads=threads)
    try:
        return replace(NAMED[name], threads=threads)
    except KeyError:
        raise TargetError(
            f"unknown target {name!r}.", hint=f"Known targets: {', '.join(('host', *NAMED))}."
        ) from None


def capabilities(
    target: Target, precisions: Iterable[Precision] | None = None
) -> Mapping[Precision, tuple[str, ...]]:
    """Names of the kernels that compute a 3x3 convolution at each precision, preferred first."""
    from mpqdeploy.targets.kernels import kernels_for
    from mpqdeploy.targets.synthesize import synthesize

    table: dict[Precision, tuple[str, ...]] = {}
    for precision in precisions or target.precisions:
        site = synthesize(REPRESENTATIVE, precision)
        offered = kernels_for(target.features)
        matching = [k for k in offered if k.matches(site.step, site.tensors, target.isa)]
        table[precision] = tuple(kernel.name for kernel in matching)
    return table


def usable_flags() -> frozenset[str]:
    """`cpu_flags`, less those that the system does not let this process use."""
    flags = cpu_flags()
    return flags if flags.isdisjoint(TILES) or tiles_permitted() else flags - TILES


def _processor() -> str:
    machine = platform.machine()
    return "x86_64" if machine.lower() in ("x86_64", "amd64") else machine


def _llvm_cpu() -> str:
    from tvm.target.codegen import llvm_get_system_cpu

    return str(llvm_get_system_cpu())
