"""`RecordStore`: latencies in a SQL database, SQLite unless the user names another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import platformdirs
from sqlalchemy import DateTime, Engine, String, Text, create_engine, event, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, IntegrityError, NoSuchModuleError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from mpqdeploy.core import Geometry, LatencyRecord, Precision, UserError

BUSY_SECONDS = 30.0  # how long a writer waits for another one's lock


class StoreError(UserError):
    """A database of latency records that cannot be reached, read or written."""


@dataclass(frozen=True, kw_only=True)
class RecordKey:
    """What a kernel latency was measured of, and where.

    `target` is `Target.key`, `machine` the fingerprint's short hash, `workload` the version of the
    synthesized layer.
    """

    geometry: Geometry
    precision: Precision
    kernel: str
    kernel_version: int
    schedule: Mapping[str, int]
    workload: int
    target: str
    machine: str

    @property
    def digest(self) -> str:
        """64 hexadecimal digits that are equal for equal keys, whatever the schedule's order."""
        fields = {**self.__dict__, "schedule": dict(self.schedule)}
        fields |= {"geometry": asdict(self.geometry), "precision": str(self.precision)}
        text = json.dumps(fields, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A stored latency. `samples_us`: in the order of the turns. `pruned`: few samples, far from
    the best."""

    kernel: str
    schedule: Mapping[str, int]
    median_us: float
    samples_us: Sequence[float]
    pruned: bool


class _Base(DeclarativeBase):
    pass


class _Row(_Base):
    """One kernel latency. The digest is the key; the columns beside it are for queries."""

    __tablename__ = "kernel_latency"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    geometry: Mapped[str] = mapped_column(Text)
    precision: Mapped[str] = mapped_column(String(8))
    kernel: Mapped[str] = mapped_column(String(64))
    kernel_version: Mapped[int]
    schedule: Mapped[str] = mapped_column(Text)
    workload: Mapped[int]
    target: Mapped[str] = mapped_column(String(200), index=True)
    machine: Mapped[str] = mapped_column(String(12), index=True)
    median_us: Mapped[float]
    pruned: Mapped[bool]
    record: Mapped[str] = mapped_column(Text)
    measured_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class _Network(_Base):
    """Latency of a whole network, by a digest that its owner makes of all that can change it."""

    __tablename__ = "network_latency"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    record: Mapped[str] = mapped_column(Text)
    measured_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class RecordStore:
    """Latencies by key. Any number of processes may read and write at once."""

    def __init__(self, url: str | None = None) -> None:
        """Open or create the database at `url`, an SQLAlchemy URL; `default_url()` without one.

        Raises `StoreError` where it cannot be opened.
        """
        self._url = _parse(url or default_url())
        self.name = self._url.render_as_string(hide_password=True)
        with self._errors():
            self._engine = _engine(self._url)
            _create_tables(self._engine)

    def get(self, key: RecordKey) -> LatencyRecord | None:
        """The full record, samples included, or None."""
        with self._session() as session:
            row = session.get(_Row, key.digest)
            return LatencyRecord.from_json(json.loads(row.record)) if row else None

    def put(self, key: RecordKey, record: LatencyRecord, *, pruned: bool = False) -> None:
        """Store `record`, in the place of an earlier one of the same key."""
        row = _row(key, record, pruned)
        try:
            with self._session() as session:
                session.add(row)
                session.commit()
        except IntegrityError:  # there is one already: an own earlier one, or another writer's
            with self._session() as session:
                session.merge(_row(key, record, pruned))
                session.commit()

    def get_network(self, digest: str) -> LatencyRecord | None:
        """The record of a whole network, or None."""
        with self._session() as session:
            row = session.get(_Network, digest)
            return LatencyRecord.from_json(json.loads(row.record)) if row else None

    def put_network(self, digest: str, record: LatencyRecord) -> None:
        """Store the record of a whole network, in the place of an earlier one."""
        row = _Network(
            digest=digest, record=json.dumps(record.to_json()), measured_at=datetime.now(UTC)
        )
        with self._session() as session:
            session.merge(row)
            session.commit()

    def entries(
        self, target: str, machine: str, digests: Collection[str] | None = None
    ) -> Mapping[str, Entry]:
        """What was measured for a target on a machine, by `RecordKey.digest`: everything, or what
        is among `digests`."""
        columns = (_Row.digest, _Row.kernel, _Row.schedule, _Row.record, _Row.pruned)
        query = select(*columns).where(_Row.target == target, _Row.machine == machine)
        if digests is not None:
            query = query.where(_Row.digest.in_(digests))
        with self._session() as session:
            return {
                digest: _entry(kernel, json.loads(schedule), json.loads(record), pruned)
                for digest, kernel, schedule, record, pruned in session.execute(query)
            }

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _session(self) -> Iterator[Session]:
        with self._errors(), Session(self._engine) as session:
            yield session

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise
        except (DatabaseError, NoSuchModuleError, ImportError, OSError) as error:
            reason = str(getattr(error, "orig", None) or error).splitlines()[0].rstrip(".")
            raise StoreError(
                f"the record store {self.name} cannot be used: {reason}.", hint=_hint(reason)
            ) from error


def default_url() -> str:
    """A SQLite file in the user's cache folder."""
    folder = platformdirs.user_cache_path("mpqdeploy")
    return URL.create("sqlite", database=str(folder / "latency.sqlite")).render_as_string()


def _parse(url: str) -> URL:
    try:
        return make_url(url)
    except ArgumentError as error:
        raise StoreError(
            f"{url!r} is not the URL of a record store.",
            hint='Write an SQLAlchemy URL, such as "sqlite:///latency.sqlite".',
        ) from error


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True)
    if url.database and url.database != ":memory:":
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS})
    event.listen(engine, "connect", _use_wal)
    return engine


def _create_tables(engine: Engine) -> None:
    try:
        _Base.metadata.create_all(engine)
    except DatabaseError:  # another process created them in between; a real fault recurs
        _Base.metadata.create_all(engine)


def _use_wal(connection: Any, _: object) -> None:
    """Readers then never wait for a writer, and a kill in the middle of a write loses it alone."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def _row(key: RecordKey, record: LatencyRecord, pruned: bool) -> _Row:
    return _Row(
        digest=key.digest,
        geometry=json.dumps(key.geometry.to_json(), sort_keys=True),
        precision=str(key.precision),
        kernel=key.kernel,
        kernel_version=key.kernel_version,
        schedule=json.dumps(dict(key.schedule), sort_keys=True),
        workload=key.workload,
        target=key.target,
        machine=key.machine,
        median_us=record.median_us,
        pruned=pruned,
        record=json.dumps(record.to_json()),
        measured_at=datetime.now(UTC),
    )


def _entry(
    kernel: str, schedule: Mapping[str, int], record: Mapping[str, Any], pruned: bool
) -> Entry:
    return Entry(
        kernel=kernel,
        schedule=schedule,
        median_us=record["median_us"],
        samples_us=tuple(record["samples_us"]),
        pruned=pruned,
    )


def _hint(reason: str) -> str:
    if "locked" in reason:
        return "Another process holds its lock: wait for it or stop it."
    if "not a database" in reason or "malformed" in reason:
        return "The file is damaged or no SQLite database: move it away, and profile again."
    if "no such column" in reason or "no column" in reason:
        return "Another version wrote it: move it away, and profile again."
    return "Check that the URL is right, the server runs, and the folder can be written."
