"""A journal whose writers are killed while they write."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpqdeploy.search.bomp.journal import FileLock, open_journal

RECORDS = [{"op_code": number, "text": "x" * (number * 40000)} for number in range(4)]


@given(st.integers(1, 130_000))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_rest_of_a_line_is_cut_off_before_the_next(tmp_path: Path, written: int) -> None:
    path = tmp_path / f"journal-{written}"
    path.unlink(missing_ok=True)
    open_journal(path, 1.0).append_logs(RECORDS[:2])
    with path.open("ab") as stream:
        stream.write(b'{"op_code": 9, "' + b"y" * written)
    reader = open_journal(path, 1.0)
    assert list(reader.read_logs(0)) == RECORDS[:2]
    open_journal(path, 1.0).append_logs(RECORDS[2:])
    assert list(reader.read_logs(2)) == RECORDS[2:]
    assert list(open_journal(path, 1.0).read_logs(0)) == RECORDS


def test_a_journal_of_half_a_line_is_empty(tmp_path: Path) -> None:
    (tmp_path / "journal").write_bytes(b'{"op')
    journal = open_journal(tmp_path / "journal", 1.0)
    journal.append_logs(RECORDS[:1])
    assert list(journal.read_logs(0)) == RECORDS[:1]


def test_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        FileLock(tmp_path / "lock", 1.0).acquire()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    lock = FileLock(tmp_path / "lock", 0.0)
    assert lock.acquire()
    lock.release()


def test_a_held_lock_is_waited_for_and_then_named(tmp_path: Path) -> None:
    held = FileLock(tmp_path / "lock", 1.0)
    held.acquire()
    with pytest.raises(TimeoutError, match="lock is locked by another process"):
        FileLock(tmp_path / "lock", 0.05).acquire()
    timer = threading.Timer(0.1, held.release)
    timer.start()
    patient = FileLock(tmp_path / "lock", 30.0)
    assert patient.acquire()
    patient.release()
    timer.join()
