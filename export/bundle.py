"""The bundle that ships: one folder, written whole or not at all, every file under a hash."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mpqdeploy.core import BundleError, Policy
from mpqdeploy.core.files import read_json, sha256, write_json
from mpqdeploy.export.card import model_card
from mpqdeploy.export.manifest import Manifest

MANIFEST = "manifest.json"
QONNX = "model.qonnx.onnx"
STANDARD = "model.onnx"
LIBRARY = "model.so"
POLICY = "policy.json"
CARD = "README.md"


def write_bundle(
    folder: Path,
    manifest: Manifest,
    *,
    qonnx: Path,
    standard: Path | None,
    library: Path,
    policy: Policy | None = None,
    force: bool = False,
) -> Manifest:
    """Write the bundle `folder` from the files of a run; return the manifest with their hashes.

    `standard` is None where standard ONNX cannot express the network.
    The folder is filled beside its name and renamed, so it is there whole or not at all. Raises
    `BundleError` where `folder` exists and is no bundle, unless `force`.
    """
    check_replaceable(folder, force=force)
    sources = {QONNX: qonnx, LIBRARY: library}
    if standard is not None:
        sources[STANDARD] = standard
    with _replacing_folder(folder) as temporary:
        for name, source in sources.items():
            shutil.copyfile(source, temporary / name)
        if policy is not None:
            write_json(temporary / POLICY, policy.to_json())
        sizes = {name: (temporary / name).stat().st_size for name in sources}
        card = model_card(manifest, policy, sizes)
        (temporary / CARD).write_text(card, encoding="utf-8")
        complete = manifest.with_files(_hashes(temporary))
        write_json(temporary / MANIFEST, complete.to_json())
    return complete


def check_replaceable(folder: Path, *, force: bool = False) -> None:
    """Raise `BundleError` unless `folder` is free, empty or a bundle (anything with `force`)."""
    if force or not folder.exists():
        return
    if not folder.is_dir():
        raise BundleError(f"{folder} is a file.", hint="Name another folder, or use --force.")
    if any(folder.iterdir()) and not is_bundle(folder):
        raise BundleError(
            f"{folder} is not empty and is no bundle.", hint="Name another folder, or use --force."
        )


def is_bundle(folder: Path) -> bool:
    """Whether `folder` has a manifest of any format; its files are not looked at."""
    try:
        data = read_json(folder / MANIFEST)
    except (OSError, ValueError):
        return False
    return isinstance(data, dict) and "format" in data and "files" in data


def read_manifest(folder: Path) -> Manifest:
    """Read `folder`'s manifest. Raises `BundleError` where there is none that can be read."""
    path = folder / MANIFEST
    if not path.is_file():
        raise BundleError(
            f"{folder} is no bundle: it has no {MANIFEST}.",
            hint="Give the folder that `mpqdeploy run` or `mpqdeploy compile` wrote.",
        )
    try:
        data = read_json(path)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} is not JSON ({error}).", hint="Copy the bundle again.") from None
    try:
        return Manifest.from_json(data)
    except BundleError as error:
        raise BundleError(f"{folder}: {error.message}", hint=error.hint) from None


def verify_bundle(folder: Path) -> Manifest:
    """Check every file against its hash. Raises `BundleError` naming the first that is missing,

    differs or does not belong; returns the manifest.
    """
    manifest = read_manifest(folder)
    present = {path.name for path in folder.iterdir()} - {MANIFEST}
    for name, expected in sorted(manifest.files.items()):
        path = folder / name
        if name not in present or not path.is_file():
            raise BundleError(f"{path} is missing.", hint="Copy the bundle again.")
        if sha256(path) != expected:
            raise BundleError(
                f"{path} differs from what was shipped (its sha256 is not the manifest's).",
                hint="Copy the bundle again, or build it again.",
            )
    for name in sorted(present - set(manifest.files)):
        raise BundleError(
            f"{folder / name} does not belong to the bundle.", hint="Move it out of the folder."
        )
    return manifest


def _hashes(folder: Path) -> Mapping[str, str]:
    return {path.name: sha256(path) for path in sorted(folder.iterdir())}


@contextmanager
def _replacing_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty sibling of `folder`; rename it onto `folder` if the block succeeds.

    The siblings' names are fixed, so what a killed process left is removed by the next one.
    """
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.partial")
    previous = folder.with_name(f".{folder.name}.previous")
    _remove(temporary)
    temporary.mkdir()
    try:
        yield temporary
        _remove(previous)
        if folder.exists():
            folder.rename(previous)
        temporary.rename(folder)
        _remove(previous)
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
