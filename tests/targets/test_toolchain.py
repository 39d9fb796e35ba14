from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import numpy as np
import pytest

from mpqdeploy.core import TargetError
from mpqdeploy.targets import toolchain
from mpqdeploy.targets.devices import LocalDevice
from mpqdeploy.targets.target import load_target
from mpqdeploy.targets.toolchain import find_toolchain, linker
from tests.targets.fakes import scale_library


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_zig_links_a_library_that_runs(tmp_path: Path) -> None:
    pytest.importorskip("ziglang")
    assert find_toolchain().name == "ziglang"
    device = LocalDevice(load_target("host"))
    module = device.load(scale_library(tmp_path / "scale.so"))
    x, y = (device.tensor(np.full(256, value, np.float32)) for value in (3, 0))
    module["scale"](x, y)
    assert np.array_equal(y.numpy(), np.full(256, 6, np.float32))


@pytest.mark.slow
@pytest.mark.usefixtures("no_compiler")
def test_zig_builds_its_runtime_where_the_objects_need_it(tmp_path: Path) -> None:
    pytest.importorskip("ziglang")
    source, object_file = tmp_path / "count.c", tmp_path / "count.o"
    source.write_text("int count(long x) { return __builtin_popcountl(x); }\n")
    zig = find_toolchain().command
    subprocess.run(
        [*zig, "-mcpu=x86_64", "-O1", "-fPIC", "-c", source, "-o", object_file], check=True
    )
    linker()(str(tmp_path / "count.so"), str(object_file))
    assert ctypes.CDLL(str(tmp_path / "count.so")).count(7) == 3


@pytest.mark.usefixtures("no_compiler")
def test_without_any_linker_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(toolchain.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TargetError, match="pip install ziglang"):
        linker()


def test_the_users_compiler_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mine = tmp_path / "mycc"
    mine.write_text("#!/bin/sh\nexit 0\n")
    mine.chmod(0o755)
    monkeypatch.setenv("CC", f"{mine} -O1")
    assert find_toolchain().command == (str(mine), "-O1")


def test_a_failing_linker_is_named_with_its_last_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bad = tmp_path / "badcc"
    bad.write_text("#!/bin/sh\necho first >&2; echo 'ld: out of luck' >&2; exit 1\n")
    bad.chmod(0o755)
    monkeypatch.setenv("CC", str(bad))
    with pytest.raises(TargetError, match=r"badcc.* could not link out\.so: ld: out of luck"):
        linker()("out.so", ["a.o"])
