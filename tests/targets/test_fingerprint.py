from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from mpqdeploy.core import Fingerprint
from mpqdeploy.targets import fingerprint as module
from mpqdeploy.targets.fingerprint import cpu_flags, cpu_info, host_fingerprint, short_hash

CPUINFO = """processor\t: 0
model name\t: Some CPU @ 2.50GHz
flags\t\t: sse2 avx2 fma

processor\t: 1
model name\t: Another
flags\t\t: sse2
"""


@pytest.fixture
def cpuinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "cpuinfo"
    monkeypatch.setattr(module, "CPUINFO", path)
    monkeypatch.setattr(module, "cpu_info", cpu_info.__wrapped__)
    return path


def test_the_first_processor_counts(cpuinfo: Path) -> None:
    cpuinfo.write_text(CPUINFO)
    assert cpu_flags() == {"sse2", "avx2", "fma"}
    fingerprint = host_fingerprint()
    assert fingerprint.cpu == "Some CPU @ 2.50GHz"
    assert fingerprint.features == ("avx2", "fma")


def test_arm_features(cpuinfo: Path) -> None:
    cpuinfo.write_text("processor : 0\nFeatures : asimd asimddp\n")
    assert host_fingerprint().features == ("asimd", "asimddp")


def test_a_system_without_the_file_has_no_features(cpuinfo: Path) -> None:
    assert cpu_flags() == frozenset()
    assert host_fingerprint().cpu


def test_hash_is_stable_and_tells_machines_apart() -> None:
    here = host_fingerprint()
    again = Fingerprint(**{**json.loads(json.dumps(asdict(here))), "features": here.features})
    assert short_hash(here) == short_hash(again)
    assert len(short_hash(here)) == 12
    others = [replace(here, tvm="0"), replace(here, cpu="x"), replace(here, features=("x",))]
    assert len({short_hash(machine) for machine in (here, *others)}) == 4


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system sets no affinity")
def test_affinity_does_not_change_the_machine() -> None:
    from mpqdeploy.targets.devices import pinned

    before = host_fingerprint()
    with pinned(1):
        assert host_fingerprint() == before
