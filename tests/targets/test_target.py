from __future__ import annotations

import pytest

from mpqdeploy.core import Precision, TargetError
from mpqdeploy.targets import target as module
from mpqdeploy.targets.isa import Isa
from mpqdeploy.targets.target import (
    DEFAULT_PRECISIONS,
    NAMED,
    REQUIRED,
    Target,
    capabilities,
    host,
    load_target,
)


def with_flags(monkeypatch: pytest.MonkeyPatch, *flags: str) -> None:
    monkeypatch.setattr(module, "cpu_flags", lambda: frozenset(flags))
    monkeypatch.setattr(module.platform, "machine", lambda: "x86_64")


def test_unknown_name_lists_the_known_ones() -> None:
    names = "host, x86-64-amx, x86-64-vbmi, x86-64-vnni, x86-64-avx2, x86-64"
    with pytest.raises(TargetError, match=rf"'x86-64-vni'.*{names}"):
        load_target("x86-64-vni")


@pytest.mark.parametrize("isa", list(Isa))
def test_host_takes_the_highest_level_whose_features_are_all_there(
    isa: Isa, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_flags(monkeypatch, *REQUIRED[isa], "sse2")
    assert load_target("host").isa is isa
    assert not load_target("host").missing()


def test_a_hidden_feature_lowers_the_level(monkeypatch: pytest.MonkeyPatch) -> None:
    with_flags(monkeypatch, *(flag for flag in REQUIRED[Isa.VNNI] if flag != "avx512vl"))
    assert host().isa is Isa.AVX2


def test_extra_features_reach_llvm_only_above_vnni(monkeypatch: pytest.MonkeyPatch) -> None:
    with_flags(monkeypatch, *REQUIRED[Isa.VNNI], "avx512_vpopcntdq")
    assert host().features == ("avx512vpopcntdq",)
    with_flags(monkeypatch, *REQUIRED[Isa.AVX2], "gfni")
    assert host().features == ()


def test_tiles_are_features_of_programs_that_the_system_lends_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_flags(monkeypatch, *REQUIRED[Isa.VNNI], "amx_tile", "amx_int8")
    monkeypatch.setattr(module, "tiles_permitted", lambda: True)
    assert host().features == ("amx-tile", "amx-int8")
    monkeypatch.setattr(module, "tiles_permitted", lambda: False)
    assert host().features == ()
    assert {"amx_tile", "amx_int8"} <= set(NAMED["x86-64-amx"].missing())


def test_tiles_are_not_asked_for_where_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked() -> bool:
        raise AssertionError("asked")

    monkeypatch.setattr(module, "tiles_permitted", asked)
    with_flags(monkeypatch, *REQUIRED[Isa.VNNI])
    assert host().features == ()


def test_target_of_another_machine_names_the_missing_feature(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_flags(monkeypatch, *REQUIRED[Isa.AVX2])
    load_target("x86-64-avx2").require_here()
    with pytest.raises(TargetError, match=r"'x86-64-vnni' cannot run.*lacks avx512f"):
        load_target("x86-64-vnni").require_here()


def test_another_architecture_is_missing_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.platform, "machine", lambda: "aarch64")
    assert NAMED["x86-64"].missing() == ("x86_64",)


def test_every_named_target_is_known_to_llvm() -> None:
    from tvm.target import codegen

    wanted = {"avx512_vnni": "avx512vnni"}
    for target in NAMED.values():
        built = target.tvm_target()
        assert built.attrs["mcpu"] == target.cpu
        special = [f for f in REQUIRED[target.isa] if f.startswith(("avx", "fma"))]
        assert codegen.target_has_features([wanted.get(f, f) for f in special], built)
        assert codegen.target_has_features(list(target.features), built)


def test_every_extra_feature_is_known_to_llvm() -> None:
    from tvm.target import codegen

    features = tuple(module._EXTRA.values())
    built = Target(name="x", isa=Isa.VNNI, cpu="cascadelake", features=features).tvm_target()
    assert codegen.target_has_features(list(features), built)


def test_key_differs_with_what_changes_the_code() -> None:
    base = NAMED["x86-64-vnni"]
    keys = {target.key for target in (*NAMED.values(), host())}
    assert base.key in keys
    other = Target(name=base.name, isa=base.isa, cpu=base.cpu, threads=2)
    assert other.key != base.key


def test_default_precisions() -> None:
    assert [str(p) for p in host().precisions] == ["8/8", "4/8", "4/4", "2/2", "1/2", "1/1"]
    assert Precision.parse("1/1") in host().precisions


@pytest.mark.parametrize("name", list(NAMED))
def test_every_default_precision_has_a_kernel_on_every_target(name: str) -> None:
    table = capabilities(load_target(name))
    assert list(table) == list(DEFAULT_PRECISIONS)
    assert all(table.values())
    assert len(table[Precision.parse("1/1")]) > len(table[Precision.parse("8/8")])
