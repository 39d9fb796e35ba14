from __future__ import annotations

from pathlib import Path

import pytest

from mpqdeploy.core import DataError
from mpqdeploy.data.archive import unpack
from tests.data.files import write_archive

MEMBERS = {"set/a.bin": b"a" * 5000, "set/b.bin": b"b" * 10}


def test_only_the_wanted_files_come_out(tmp_path: Path) -> None:
    archive = tmp_path / "set.tar.gz"
    extra = {"set/readme.html": b"x", "../evil": b"x", "/abs": b"x", "set/../../up.bin": b"x"}
    write_archive(archive, {**extra, **MEMBERS})
    folder = unpack(archive, "set", ("a.bin", "b.bin"), 5000)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "a.bin": MEMBERS["set/a.bin"],
        "b.bin": MEMBERS["set/b.bin"],
    }
    assert {path.name for path in tmp_path.iterdir()} == {"set", "set.tar.gz"}


@pytest.mark.parametrize("case", ["cut", "not an archive", "missing", "too large", "link"])
def test_nothing_is_left_of_a_bad_archive(tmp_path: Path, case: str) -> None:
    archive = tmp_path / "set.tar.gz"
    members, links, most = dict(MEMBERS), {}, 5000
    if case == "missing":
        del members["set/b.bin"]
    if case == "link":
        del members["set/b.bin"]
        links = {"set/b.bin": "/etc/hostname"}
    if case == "too large":
        most = 4999
    write_archive(archive, members, links)
    if case == "cut":
        archive.write_bytes(archive.read_bytes()[:60])
    if case == "not an archive":
        archive.write_bytes(b"<html>404</html>")
    with pytest.raises(DataError, match=r"set\.tar\.gz"):
        unpack(archive, "set", ("a.bin", "b.bin"), most)
    assert [path.name for path in tmp_path.iterdir()] == ["set.tar.gz"]


def test_a_folder_with_some_of_the_files_is_completed(tmp_path: Path) -> None:
    archive = tmp_path / "set.tar.gz"
    write_archive(archive, MEMBERS)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "notes.txt").write_text("mine")
    unpack(archive, "set", ("a.bin", "b.bin"), 5000)
    names = {path.name for path in (tmp_path / "set").iterdir()}
    assert names == {"a.bin", "b.bin", "notes.txt"}
