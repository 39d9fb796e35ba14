"""The linker that turns TVM's object files into `model.so`."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mpqdeploy.core import TargetError

COMPILERS = ("cc", "gcc", "clang")

Link = Callable[..., None]
"""`link(output, objects, options=None)`: what TVM's `export_library` takes as `fcompile`."""


@dataclass(frozen=True, kw_only=True)
class Toolchain:
    """A C compiler driver, used as the linker: its name for people, and the command.

    `attempts` are options to link with, tried in turn until one succeeds.
    """

    name: str
    command: tuple[str, ...]
    attempts: tuple[tuple[str, ...], ...] = ((),)


def find_toolchain() -> Toolchain:
    """$CC, else the system's compiler, else the `ziglang` package's.

    Raises `TargetError` where there is none.
    """
    named = shlex.split(os.environ.get("CC", ""))
    if named and shutil.which(named[0]):
        return Toolchain(name=f"$CC ({named[0]})", command=tuple(named))
    for compiler in COMPILERS:
        path = shutil.which(compiler)
        if path:
            return Toolchain(name=path, command=(path,))
    if importlib.util.find_spec("ziglang"):
        return _zig()
    raise TargetError(
        "no linker was found: none of cc, gcc and clang, and no ziglang package.",
        hint="Run `pip install ziglang`, or install a C compiler.",
    )


def linker() -> Link:
    """The function to pass to `export_library(path, fcompile=linker())`.

    Raises `TargetError` where no linker is found, and when it runs, where linking fails.
    """
    toolchain = find_toolchain()

    def link(
        output: str, objects: str | Sequence[str], options: Sequence[str] | None = None
    ) -> None:
        files = [objects] if isinstance(objects, str) else list(objects)
        command = [*toolchain.command, "-shared", "-fPIC", "-o", output, *files, *(options or ())]
        for attempt in toolchain.attempts:
            done = subprocess.run([*command, *attempt], capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return
        raise TargetError(
            f"{toolchain.name} could not link {output}: {_last_line(done.stderr)}.",
            hint="Set CC to a C compiler that works, or unset it.",
        )

    return link


def _zig() -> Toolchain:
    """Zig first without its own runtime library, which takes most of a minute to build once.

    That fails, because of `-z defs`, where the objects call a routine of that library; then it is
    built. TVM's own library has to be named for `-z defs` to see its symbols.
    """
    from tvm_ffi.libinfo import find_libtvm_ffi

    bare = ("-nostdlib", "-lc", "-lm", find_libtvm_ffi(), "-Wl,-z,defs")
    command = (sys.executable, "-m", "ziglang", "cc")
    return Toolchain(name="ziglang", command=command, attempts=(bare, ()))


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip().rstrip(".") if lines else "it said nothing"
