from __future__ import annotations

import json
import multiprocessing
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from mpqdeploy.core import Fingerprint, Geometry, LatencyRecord, Precision, Protocol
from mpqdeploy.targets import records
from mpqdeploy.targets.records import RecordKey, RecordStore, StoreError, default_url

HERE = Fingerprint(cpu="test", features=("avx2",), cores=1, tvm="0", system="test")
KEY = RecordKey(
    geometry=Geometry(op="conv", in_channels=16, out_channels=16, in_size=(8, 8), kernel=(3, 3)),
    precision=Precision(weight_bits=4, act_bits=4),
    kernel="dot",
    kernel_version=1,
    schedule={"rows": 4, "unroll": 2},
    workload=1,
    target="vnni:cascadelake:1",
    machine="0123456789ab",
)


def record(*samples: float) -> LatencyRecord:
    return LatencyRecord(
        samples_us=samples, protocol=Protocol(samples=len(samples)), fingerprint=HERE
    )


def url(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    return RecordStore(url(tmp_path / "sub" / "latency.sqlite"))


def test_a_record_comes_back_whole_and_from_a_second_store(store: RecordStore) -> None:
    store.put(KEY, record(1.0, 2.0, 4.5))
    store.close()
    assert RecordStore(store.name).get(KEY) == record(1.0, 2.0, 4.5)


def test_an_unknown_key_has_no_record(store: RecordStore) -> None:
    assert store.get(KEY) is None


def test_a_new_measurement_takes_the_place_of_the_old(store: RecordStore) -> None:
    store.put(KEY, record(9.0), pruned=True)
    store.put(KEY, record(1.0))
    (entry,) = store.entries(KEY.target, KEY.machine).values()
    assert (entry.median_us, entry.samples_us, entry.pruned) == (1.0, (1.0,), False)


def test_every_field_of_the_key_tells_records_apart(store: RecordStore) -> None:
    keys = [
        KEY,
        replace(KEY, geometry=replace(KEY.geometry, act_signed=True)),
        replace(KEY, precision=Precision(weight_bits=4, act_bits=8)),
        replace(KEY, kernel="popcount"),
        replace(KEY, kernel_version=2),
        replace(KEY, schedule={"rows": 4, "unroll": 1}),
        replace(KEY, workload=2),
        replace(KEY, target="avx2:haswell:1"),
        replace(KEY, machine="ba9876543210"),
    ]
    for index, key in enumerate(keys):
        store.put(key, record(float(index)))
    assert [store.get(key) for key in keys] == [record(float(i)) for i in range(len(keys))]


def test_the_schedules_order_does_not_matter(store: RecordStore) -> None:
    store.put(KEY, record(3.0))
    assert store.get(replace(KEY, schedule={"unroll": 2, "rows": 4})) == record(3.0)


def test_entries_are_those_of_the_target_and_machine(store: RecordStore) -> None:
    store.put(KEY, record(3.0, 5.0))
    store.put(replace(KEY, machine="other"), record(1.0))
    entries = store.entries(KEY.target, KEY.machine)
    assert list(entries) == [KEY.digest]
    assert entries[KEY.digest].schedule == {"rows": 4, "unroll": 2}
    assert entries[KEY.digest].median_us == 4.0
    only = store.entries(KEY.target, KEY.machine, [KEY.digest, "0" * 64])
    assert only == {KEY.digest: entries[KEY.digest]}
    assert store.entries(KEY.target, KEY.machine, []) == {}


def write(address: str, worker: int, count: int) -> None:
    store = RecordStore(address)
    for index in range(count):
        store.put(replace(KEY, schedule={"worker": worker, "index": index}), record(1.0))
        store.put(replace(KEY, schedule={"shared": index}), record(float(worker)))


def test_two_processes_create_and_fill_one_database(tmp_path: Path) -> None:
    address = url(tmp_path / "latency.sqlite")
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write, args=(address, worker, 40)) for worker in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert len(RecordStore(address).entries(KEY.target, KEY.machine)) == 120


def test_a_locked_database_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "BUSY_SECONDS", 0.1)
    path = tmp_path / "latency.sqlite"
    store = RecordStore(url(path))
    holder = sqlite3.connect(path)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match=r"latency\.sqlite .*locked.*wait for it"):
        store.put(KEY, record(1.0))
    holder.close()
    store.put(KEY, record(1.0))


def test_a_file_that_is_no_database_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "latency.sqlite"
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError, match=r"latency\.sqlite .*move it away"):
        RecordStore(url(path))
    assert path.read_bytes().startswith(b"no database")


def test_a_database_of_another_version_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "latency.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE kernel_latency (digest TEXT PRIMARY KEY)")
    connection.commit()
    connection.close()
    with pytest.raises(StoreError, match="Another version wrote it"):
        RecordStore(url(path)).entries("t", "m")


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="can be written"):
        RecordStore(url(tmp_path / "file" / "latency.sqlite"))


@pytest.mark.parametrize("bad", ["latency.sqlite", "nosuchdb://host/x"])
def test_a_url_of_nothing_is_an_error(bad: str) -> None:
    with pytest.raises(StoreError, match=bad.partition(":")[0]):
        RecordStore(bad)


def test_a_password_is_not_shown() -> None:
    with pytest.raises(StoreError) as caught:
        RecordStore("nosuchdb://user:secret@host/x")
    assert "secret" not in str(caught.value)


def test_the_default_is_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_url().startswith("sqlite:///")
    RecordStore().put(KEY, record(1.0))
    assert json.dumps(str(default_url())).count("latency.sqlite") == 1
