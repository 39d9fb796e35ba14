from __future__ import annotations

from pathlib import Path

import pytest

from mpqdeploy.targets import doctor, fingerprint
from mpqdeploy.targets import target as target_module
from mpqdeploy.targets.doctor import Check, diagnose


def check(name: str) -> Check:
    (found,) = [check for check in diagnose() if check.name == name]
    return found


def pretend(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    def version(name: str) -> str:
        found = versions.get(name.replace("-", "_"), "absent")
        if found is None:
            raise doctor.PackageNotFoundError(name)
        return real(name) if found == "absent" else found

    real = doctor.version
    monkeypatch.setattr(doctor, "version", version)


def test_this_machine_can_compile() -> None:
    checks = diagnose()
    assert not [check for check in checks if check.status == "fail"]
    names = [check.name for check in checks]
    assert {"python", "apache-tvm", "cpu", "linker", "tvm code generation", "cache folder"} <= {
        *names
    }
    assert len(names) == len(set(names))


def test_whatever_is_not_ok_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version", lambda name: "0.0.1")
    bad = [check for check in diagnose() if check.status != "ok"]
    assert len(bad) > 5
    assert all(check.advice for check in bad)


def test_the_tvm_ffi_that_crashes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, apache_tvm_ffi="0.1.15.post2")
    found = check("apache-tvm-ffi")
    assert found.status == "fail"
    assert "crashes" in found.advice
    assert "apache-tvm-ffi==0.1.14" in found.advice


def test_a_missing_optional_package_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, torch=None, numpy=None)
    assert check("torch").status == "warn"
    assert "training and search" in check("torch").advice
    assert check("numpy").status == "fail"


def test_no_linker_fails_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from mpqdeploy.targets import toolchain

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(toolchain.importlib.util, "find_spec", lambda name: None)
    found = check("linker")
    assert (found.status, "ziglang" in found.advice) == ("fail", True)


def test_a_cache_that_cannot_be_written_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert check("cache folder").status == "warn"


def test_a_cpu_without_avx2_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target_module, "cpu_flags", lambda: frozenset({"sse2"}))
    monkeypatch.setattr(fingerprint.platform, "machine", lambda: "x86_64")
    assert check("cpu").status == "warn"
