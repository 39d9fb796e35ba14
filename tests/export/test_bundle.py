from __future__ import annotations

import json
from pathlib import Path

import pytest

from mpqdeploy.core import BundleError
from mpqdeploy.core.files import sha256
from mpqdeploy.export import bundle as bundle_module
from mpqdeploy.export.bundle import verify_bundle, write_bundle
from tests.export.bundles import POLICY, bundle, manifest


def test_what_is_inside(tmp_path: Path) -> None:
    folder = bundle(tmp_path)
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "model.qonnx.onnx",
        "model.onnx",
        "model.so",
        "policy.json",
        "manifest.json",
        "README.md",
    }
    data = json.loads((folder / "manifest.json").read_text())
    assert data["files"] == {name: sha256(folder / name) for name in names - {"manifest.json"}}
    assert json.loads((folder / "policy.json").read_text()) == POLICY.to_json()
    assert verify_bundle(folder).accuracy == manifest().accuracy


def test_card_says_what_the_manifest_knows(tmp_path: Path) -> None:
    card = (bundle(tmp_path) / "README.md").read_text()
    for text in ("# test-net", "0.9000", "11.0 µs", "avx2", "8/8", "model.preprocess", "99 of 100"):
        assert text in card


@pytest.mark.parametrize("name", ["model.so", "model.onnx", "policy.json", "README.md"])
def test_an_altered_file_is_named(tmp_path: Path, name: str) -> None:
    folder = bundle(tmp_path)
    content = bytearray((folder / name).read_bytes())
    content[0] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(BundleError, match=rf"{name} differs"):
        verify_bundle(folder)


def test_missing_and_extra_files_are_named(tmp_path: Path) -> None:
    folder = bundle(tmp_path)
    (folder / "notes.txt").write_text("x")
    with pytest.raises(BundleError, match=r"notes\.txt does not belong"):
        verify_bundle(folder)
    (folder / "model.onnx").unlink()
    with pytest.raises(BundleError, match=r"model\.onnx is missing"):
        verify_bundle(folder)


def test_altered_manifest_and_no_manifest(tmp_path: Path) -> None:
    folder = bundle(tmp_path)
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace("0.92", "0.99"))
    with pytest.raises(BundleError, match=r"bundle: manifest\.json differs"):
        verify_bundle(folder)
    path.write_text("{")
    with pytest.raises(BundleError, match=r"manifest\.json is not JSON"):
        verify_bundle(folder)
    path.unlink()
    with pytest.raises(BundleError, match="is no bundle"):
        verify_bundle(folder)
    with pytest.raises(BundleError, match="is no bundle"):
        verify_bundle(tmp_path / "nowhere")


def test_a_bundle_is_replaced_another_folder_is_not(tmp_path: Path) -> None:
    folder = bundle(tmp_path, library=b"old")
    bundle(tmp_path, library=b"new")
    assert (folder / "model.so").read_bytes() == b"new"
    (folder / "manifest.json").unlink()
    with pytest.raises(BundleError, match="not empty and is no bundle"):
        bundle(tmp_path)
    assert (folder / "model.so").read_bytes() == b"new"
    source = tmp_path / "sources" / "q"
    write_bundle(folder, manifest(), qonnx=source, standard=source, library=source, force=True)
    verify_bundle(folder)


def test_a_failure_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = bundle(tmp_path)
    before = (folder / "manifest.json").read_bytes()

    def fail(*_: object) -> str:
        raise OSError("disk full")

    monkeypatch.setattr(bundle_module, "model_card", fail)
    with pytest.raises(OSError, match="disk full"):
        bundle(tmp_path, library=b"new")
    assert (folder / "manifest.json").read_bytes() == before
    verify_bundle(folder)
    assert {path.name for path in tmp_path.iterdir()} == {"bundle", "sources"}


def test_remains_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    for name in (".bundle.partial", ".bundle.previous"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.so").write_bytes(b"half")
    verify_bundle(bundle(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"bundle", "sources"}


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "bundle").write_text("x")
    with pytest.raises(BundleError, match="is a file"):
        bundle(tmp_path)
