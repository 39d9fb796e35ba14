"""Storages that are locked, away, or named wrongly."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from mpqdeploy.core import ConfigError
from mpqdeploy.search.bomp.storage import open_storage


def ignore(note: str) -> None:
    """For who does not listen."""


def locked(file: Path) -> sqlite3.Connection:
    """A connection that holds the whole database; other threads may close it."""
    connection = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    return connection


def test_a_locked_database_is_named_with_how_long_it_was_tried(tmp_path: Path) -> None:
    holding = locked(tmp_path / "study.db")
    notes: list[str] = []
    with pytest.raises(ConfigError, match=r"study\.db.*: no answer in 1 s \(database is locked\)"):
        open_storage(f"sqlite:///{tmp_path / 'study.db'}?timeout=0.1", 1.0, notes.append)
    holding.close()
    assert len(notes) == 1
    assert "database is locked; trying again for 1 s" in notes[0]


def test_a_database_that_is_freed_in_time_is_opened(tmp_path: Path) -> None:
    holding = locked(tmp_path / "study.db")
    notes: list[str] = []
    timer = threading.Timer(0.5, holding.close)
    timer.start()
    storage, _ = open_storage(f"sqlite:///{tmp_path / 'study.db'}?timeout=0.1", 30.0, notes.append)
    timer.join()
    assert storage.get_all_studies() == []
    assert len(notes) == 1


def test_an_unreachable_server_is_named_without_its_password() -> None:
    pytest.importorskip("psycopg")
    notes: list[str] = []
    with pytest.raises(ConfigError, match=r"no answer in 1 s.*refused") as raised:
        open_storage("postgresql://me:secret@127.0.0.1:1/studies", 1.0, notes.append)
    assert "trying again for 1 s" in notes[0]
    assert "127.0.0.1:1/studies" in raised.value.message
    assert "secret" not in raised.value.message + notes[0]


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("mysql+absent://me@host/name", "driver is not installed"),
        ("postgresql://me@host:port/name", "cannot be read"),
    ],
)
def test_urls_that_lead_nowhere(storage: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_storage(storage, 1.0, ignore)


def test_a_journal_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for storage in (tmp_path, tmp_path / "file" / "study"):
        with pytest.raises(ConfigError, match="cannot be written"):
            open_storage(str(storage), 1.0, ignore)


def test_a_file_of_something_else_is_no_journal(tmp_path: Path) -> None:
    for text in ('{"name": "digits"}\n', "trials: 3\nspace: small\n"):
        (tmp_path / "file").write_text(text)
        with pytest.raises(ConfigError, match="no journal of a study"):
            open_storage(str(tmp_path / "file"), 1.0, ignore)
        assert (tmp_path / "file").read_text() == text
