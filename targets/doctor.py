"""`diagnose`: what this machine has of what the project needs, and what to do about the rest."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Literal

import platformdirs
from packaging.requirements import Requirement

from mpqdeploy.core import TargetError
from mpqdeploy.targets.fingerprint import cpu_model
from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.target import host
from mpqdeploy.targets.toolchain import find_toolchain

Status = Literal["ok", "warn", "fail"]

# Extras of this package that a user may do without, and what is lost then.
OPTIONAL = {"compile": "compiling QONNX files", "search": "training and search"}

TRAPS = {
    "apache-tvm-ffi": "0.1.15 crashes in Schedule.tensorize with this TVM.",
    "onnx": "1.23 writes files that onnxruntime 1.31 does not read.",
    "setuptools": "Brevitas imports pkg_resources, which later versions lack.",
}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at: what was found, and what to do unless `status` is ok.

    `warn`: something works less well or not at all, but not everything; `fail`: nothing compiles
    or runs before it is mended.
    """

    name: str
    status: Status
    found: str
    advice: str = ""


def diagnose() -> list[Check]:
    """Every check, in the order in which to mend things. Raises nothing."""
    return [_python(), *_packages(), _cpu(), _compiler(), _linker(), _cache()]


def _python() -> Check:
    found = platform.python_version()
    if found.startswith("3.11."):
        return Check(name="python", status="ok", found=found)
    return Check(name="python", status="fail", found=found, advice="Use Python 3.11.")


def _packages() -> Iterator[Check]:
    """A check for each requirement of the installed package that holds on this system."""
    try:
        lines = requires("mpqdeploy") or []
    except PackageNotFoundError:
        yield Check(
            name="mpqdeploy",
            status="warn",
            found="run from its folder, not installed: its requirements are unknown",
            advice="Run `pip install -e .` in the repository.",
        )
        return
    for requirement in map(Requirement, lines):
        if requirement.name == "mpqdeploy":
            continue
        for extra in ("", *OPTIONAL):
            marker = requirement.marker
            if (marker is None) if not extra else (marker and marker.evaluate({"extra": extra})):
                yield _package(requirement, extra)


def _package(requirement: Requirement, extra: str) -> Check:
    name, wanted = requirement.name, str(requirement.specifier)
    install = f'Run `pip install "{name}{wanted}"`.'
    status: Status = "warn" if extra else "fail"
    try:
        found = version(name)
    except PackageNotFoundError:
        lost = f" It is needed for {OPTIONAL[extra]}." if extra else ""
        return Check(name=name, status=status, found="not installed", advice=install + lost)
    if requirement.specifier.contains(found, prereleases=True):
        return Check(name=name, status="ok", found=found)
    advice = " ".join(filter(None, (TRAPS.get(name), install)))
    return Check(name=name, status=status, found=f"{found}, wanted {wanted}", advice=advice)


def _cpu() -> Check:
    here = host()
    found = f"{cpu_model()}: kernels of level {here.isa}"
    if here.isa is Isa.PORTABLE:
        advice = "Without AVX2 the portable kernels run: right, but several times slower."
        return Check(name="cpu", status="warn", found=found, advice=advice)
    return Check(name="cpu", status="ok", found=found)


def _compiler() -> Check:
    """Whether TVM loads, and its LLVM generates code for this processor."""
    name = "tvm code generation"
    try:
        from tvm.target import codegen

        targets = {str(target) for target in codegen.llvm_get_targets()}
        major = codegen.llvm_version_major()
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return Check(
            name=name,
            status="fail",
            found=f"TVM does not load: {reason}",
            advice="Install the versions of constraints.txt: `pip install -c constraints.txt -e .`",
        )
    machine = host().processor
    wanted = {"x86_64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    if wanted not in targets:
        advice = "Install a TVM whose LLVM has it."
        found = f"LLVM {major} without {wanted}"
        return Check(name=name, status="fail", found=found, advice=advice)
    return Check(name=name, status="ok", found=f"LLVM {major} with {len(targets)} processors")


def _linker() -> Check:
    try:
        return Check(name="linker", status="ok", found=find_toolchain().name)
    except TargetError as error:
        return Check(name="linker", status="fail", found=error.message, advice=error.hint)


def _cache() -> Check:
    folder = platformdirs.user_cache_path("mpqdeploy")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return Check(name="cache folder", status="ok", found=str(folder))
    except OSError as error:
        return Check(
            name="cache folder",
            status="warn",
            found=f"{folder}: {error.strerror or error}",
            advice="Latencies cannot be kept there: set XDG_CACHE_HOME to a folder you may write.",
        )
