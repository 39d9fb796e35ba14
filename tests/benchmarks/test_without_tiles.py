"""In processes of their own: a filter of system calls stays for as long as its process runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "without_tiles.py"
ASK = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
print(libc.syscall(158, 0x1023, ctypes.c_long(18)), ctypes.get_errno())
print(libc.syscall(158, 0x1022, ctypes.byref(ctypes.c_long(0))), libc.getpid() > 0)
"""
TARGET = """
from mpqdeploy.targets.target import load_target
print(load_target("host").features)
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="filters are Linux's")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *command], capture_output=True, text=True, check=False
    )


def test_a_command_and_what_it_starts_are_refused_tiles_and_nothing_else() -> None:
    again = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {ASK!r}])"
    for code in (ASK, again):
        refused, other = run(sys.executable, "-c", code).stdout.splitlines()
        assert refused == "-1 1"  # EPERM; a system without tiles says EINVAL or ENODEV itself
        assert other.endswith("True")


def test_the_host_is_a_target_without_tiles() -> None:
    done = run(sys.executable, "-c", TARGET)
    assert done.returncode == 0, done.stderr
    assert "amx-int8" not in done.stdout


def test_what_cannot_be_run_is_a_line() -> None:
    done = run("no-such-command")
    assert done.returncode == 2
    assert "no-such-command could not be run: No such file or directory" in done.stderr
    assert "Traceback" not in done.stderr
    assert "no command is given" in run().stderr
