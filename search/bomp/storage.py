"""Where a study is kept: a journal file, SQLite, or a database server that machines share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from mpqdeploy.core import ConfigError
from mpqdeploy.search.bomp.journal import open_journal

T = TypeVar("T")
OnNote = Callable[[str], None]

# A worker that finds the database busy asks again after so many seconds.
_PAUSE = 0.5
# What a database that is busy, locked or away raises.
TRANSIENT = (DBAPIError, StorageInternalError, TimeoutError)


@dataclass(frozen=True, kw_only=True)
class Patience:
    """What to do while a database does not answer: say so once, and try for `seconds`."""

    where: str
    seconds: float
    on_note: OnNote

    def call(self, action: Callable[[], T]) -> T:
        """The answer of `action`. Raises `ConfigError` where none came in time."""
        until = time.monotonic() + self.seconds
        told = False
        while True:
            try:
                return action()
            except TRANSIENT as error:
                if not told:
                    self.on_note(
                        f"{self.where}: {_reason(error)}; trying again for {self.seconds:.0f} s"
                    )
                    told = True
                if time.monotonic() + _PAUSE > until:
                    raise ConfigError(
                        f"{self.where}: no answer in {self.seconds:.0f} s ({_reason(error)}).",
                        hint="Look whether it runs, can be reached and is not locked; the study is "
                        "kept as it is, and the same command continues it.",
                    ) from error
            time.sleep(_PAUSE)


def open_storage(storage: str, patience: float, on_note: OnNote) -> tuple[BaseStorage, Patience]:
    """The storage that `storage` names, and how to ask it.

    A database by its URL (`sqlite:///FILE`, `postgresql://USER@HOST/NAME`, whatever SQLAlchemy
    knows), anything else is the path of a journal file. Raises `ConfigError` for a URL that cannot
    be read, a driver that is not installed, a path that cannot be written, and for a database
    that is silent or locked for `patience` seconds.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if "://" not in storage:
        waiting = Patience(where=storage, seconds=patience, on_note=on_note)
        try:
            journal = waiting.call(lambda: JournalStorage(open_journal(Path(storage), patience)))
        except OSError as error:
            raise ConfigError(
                f"{storage}: this journal cannot be written ({error.strerror}).",
                hint="Name a file in a folder that is yours.",
            ) from error
        except (ValueError, KeyError) as error:
            raise ConfigError(
                f"{storage}: this is no journal of a study.", hint="Name another file."
            ) from error
        return journal, waiting
    url = _url(storage)
    shown = url.render_as_string(hide_password=True)
    waiting = Patience(where=shown, seconds=patience, on_note=on_note)
    try:
        return waiting.call(lambda: _database(url)), waiting
    except (ImportError, NoSuchModuleError) as error:
        raise ConfigError(
            f"{shown}: the database's driver is not installed ({_reason(error)}).",
            hint="For PostgreSQL: pip install 'mpqdeploy[postgres]'.",
        ) from error


def _url(storage: str) -> URL:
    try:
        url = make_url(storage)
    except (ArgumentError, ValueError) as error:
        raise ConfigError(
            f"this URL of a study's database cannot be read ({_reason(error)}).",
            hint="Write sqlite:///FILE, or postgresql://USER:PASSWORD@HOST:PORT/NAME.",
        ) from error
    # What a bare postgresql:// means differs between SQLAlchemy's versions.
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


def _database(url: URL) -> BaseStorage:
    options: dict[str, object] = {}
    if url.get_backend_name() == "sqlite":
        if url.database and url.database != ":memory:":
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    else:
        # A server may have been started anew, or have cut an idle connection, between two trials.
        options = {"pool_pre_ping": True}
        if url.get_backend_name() == "postgresql":
            options["connect_args"] = {"connect_timeout": 10}
    return RDBStorage(url.render_as_string(hide_password=False), engine_kwargs=options)


def _reason(error: BaseException) -> str:
    """The first line of what the database itself said."""
    while error.__cause__ is not None:
        error = error.__cause__
    origin = getattr(error, "orig", None) or error
    return (str(origin).strip().splitlines() or [type(origin).__name__])[0]
