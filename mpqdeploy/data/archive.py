"""Unpacking an official archive where the user put it: only the files we read, or nothing."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from mpqdeploy.core import DataError

_COPY_BYTES = 1 << 20


def unpack(
    archive: Path,
    folder: str,
    wanted: Collection[str],
    most_bytes: int,
    optional: Collection[str] = (),
) -> Path:
    """Extract `folder/<name>` of a `.tar.gz` for each wanted name, beside the archive.

    Names in `optional` may be absent.

    Members are matched by their exact path and must be regular files of at most `most_bytes`, so
    neither `..`, nor a link, nor a bomb gets out. The folder appears whole or not at all. Raises
    `DataError`.
    """
    destination = archive.parent / folder
    try:
        staging = Path(tempfile.mkdtemp(prefix=f".{folder}.", dir=archive.parent))
    except OSError as error:
        raise DataError(
            f"{archive}: cannot unpack it in its own folder ({error.strerror}).",
            hint=f"Make the folder writable, or unpack it yourself: tar -xzf {archive.name}",
        ) from error
    try:
        found = _extract(archive, folder, {*wanted, *optional}, most_bytes, staging)
        missing = sorted(set(wanted) - found)
        if missing:
            raise DataError(
                f"{archive}: there is no {folder}/{missing[0]} in it.",
                hint="Use the official binary version of the data set.",
            )
        staging.chmod(0o755)
        # A folder that lacks some files may be there from an unpacking by hand.
        if destination.exists():
            for path in staging.iterdir():
                path.replace(destination / path.name)
        else:
            staging.replace(destination)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return destination


def _extract(archive: Path, folder: str, names: set[str], most: int, staging: Path) -> set[str]:
    """Write the named members to `staging`; the names that were there."""
    found: set[str] = set()
    try:
        with tarfile.open(archive, "r|gz") as stream:
            for member in stream:
                name = PurePosixPath(member.name)
                if str(name.parent) != folder or name.name not in names - found:
                    continue
                if not member.isfile() or member.size > most:
                    raise DataError(
                        f"{archive}: member {member.name} is not a file of at most {most} bytes.",
                        hint="Fetch the official archive again.",
                    )
                source = stream.extractfile(member)
                if source is None:
                    continue
                with (staging / name.name).open("wb") as target:
                    shutil.copyfileobj(source, target, _COPY_BYTES)
                found.add(name.name)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise DataError(
            f"{archive}: the archive is damaged or cut short ({error}).",
            hint="Fetch it again and compare its size with the publisher's.",
        ) from error
    return found
