"""`RunFolder`: a folder that a killed run continues from.

    run_dir/
      run.json             what decides the results: marks the folder as a run's
      run.log              one line per event, with the time
      lock
      steps/<step>/        one step's own files
        started.json       hash of the inputs it works from
        done.json          the same, its result, its files' hashes and its time: written last

A step is done when `done.json` is there, its input hash is the present one and its files are as it
left them. Inputs are the parts of the configuration that the step reads and the steps that it
builds on, so that whatever depends on something that changed runs again, and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from mpqdeploy import __version__
from mpqdeploy.core import ConfigError
from mpqdeploy.core.files import read_json, sha256, write_json
from mpqdeploy.run_lock import RunLock

State = Literal["done", "unfinished", "stale", "missing"]
Work = Callable[[Path], Any]

SCRATCH = "scratch"
"""Sub-folder of a step's folder for checkpoints: no part of its result, removed when it is done."""

_MARKER = "run.json"
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True, kw_only=True)
class Done:
    """A finished step: what it returned, where its files are, how long it took.

    `hash` covers inputs, result and files: pass the `Done` itself as an input of what builds on it.
    """

    name: str
    result: Any
    folder: Path
    seconds: float
    hash: str


class RunFolder:
    """Use as a context manager: the lock is held inside."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = RunLock(path / "lock")

    def __enter__(self) -> Self:
        """Raises `LockedError` where another process works here, `ConfigError` for no folder."""
        self._check_kind()
        try:
            self._lock.acquire()
        except OSError as error:
            raise ConfigError(
                f"run_dir: {self.path} cannot be written ({error.strerror}).",
                hint="Choose another run_dir.",
            ) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A run that came to nothing, for want of its data for instance, leaves nothing behind.
        unused = [path.name for path in self.path.iterdir()] == ["lock"]
        if unused:
            self._lock.remove()
        self._lock.release()
        if unused:
            with suppress(OSError):  # another process may have come in meanwhile
                self.path.rmdir()

    def claim(self, snapshot: Mapping[str, Any], *, fresh: bool = False) -> None:
        """Bind the folder to a configuration, or check that it is the one it is bound to.

        Raises `ConfigError` with the first differences. `fresh` clears what earlier runs left.
        """
        if fresh:
            self.clear()
        else:
            self.check(snapshot)
        write_json(self.path / _MARKER, {"config": snapshot, "mpqdeploy": __version__})

    def check(self, snapshot: Mapping[str, Any]) -> None:
        """Compare with the configuration that the folder is bound to, if any; writes nothing."""
        bound = _record(self.path / _MARKER, "config")
        if bound is None:
            return
        changed = list(_differences(bound["config"], json.loads(json.dumps(snapshot))))
        if changed:
            more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
            raise ConfigError(
                f"{self.path} holds a run of another configuration:"
                f" {'; '.join(changed[:3])}{more}.",
                hint="Choose another run_dir, or start this one over with --fresh.",
            )

    def clear(self) -> None:
        """Remove what earlier runs worked out, and nothing else."""
        for folder in ("steps", "tensorboard", "pareto"):
            shutil.rmtree(self.path / folder, ignore_errors=True)
        for file in ("run.log", "mlflow.json"):
            (self.path / file).unlink(missing_ok=True)

    def state(self, name: str, inputs: Mapping[str, Any]) -> State:
        """Where a step stands for these inputs; writes nothing."""
        folder = self._folder(name)
        wanted = _digest(inputs)
        for file, state in (("done.json", "done"), ("started.json", "unfinished")):
            record = _record(folder / file)
            if record is None:
                continue
            if record["inputs"] != wanted:
                return "stale"
            if state == "unfinished" or _intact(folder, record["files"]):
                return "done" if state == "done" else "unfinished"
            return "stale"
        return "missing"

    def done(self, name: str, inputs: Mapping[str, Any]) -> Done | None:
        """The step as it was finished for these inputs, or None; writes nothing."""
        return self._done(name) if self.state(name, inputs) == "done" else None

    def step(self, name: str, inputs: Mapping[str, Any], work: Work) -> Done:
        """`work`'s result for these inputs, from disk if it is there.

        `work(folder)` returns a JSON value and may leave files in `folder`; what it keeps in
        `folder/scratch` is there when it is called again after being killed, and gone once it is
        done. `inputs` are JSON values, paths and `Done`s of earlier steps.
        """
        folder = self._folder(name)
        state = self.state(name, inputs)
        if state == "done":
            self.log(f"{name}: done before")
            return self._done(name)
        if state != "unfinished" and folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "started.json", {"inputs": _digest(inputs)})
        self.log(f"{name}: {'continues' if state == 'unfinished' else 'starts'}")
        started = time.monotonic()
        result = work(folder)
        seconds = time.monotonic() - started
        shutil.rmtree(folder / SCRATCH, ignore_errors=True)
        for hidden in [path for path in folder.rglob(".*") if path.is_file()]:
            hidden.unlink()  # the temporary file of a write that was killed
        record = {
            "inputs": _digest(inputs),
            "result": result,
            "files": _hashes(folder),
            "seconds": round(seconds, 3),
            "finished": _now(),
        }
        write_json(folder / "done.json", record)
        self.log(f"{name}: done in {seconds:.1f} s")
        return self._done(name)

    def seconds(self) -> dict[str, float]:
        """Wall time of every finished step, in the order in which they finished.

        A step that was killed counts from where it was taken up again.
        """
        records = []
        for file in (self.path / "steps").glob("*/done.json"):
            record = _record(file)
            if record is not None:
                records.append((record["finished"], file.parent.name, record["seconds"]))
        return {name: seconds for _, name, seconds in sorted(records)}

    def log(self, message: str) -> None:
        """Append a line to `run.log`."""
        with (self.path / "run.log").open("a", encoding="utf-8") as stream:
            stream.write(f"{_now()} {message}\n")

    def _done(self, name: str) -> Done:
        folder = self._folder(name)
        record = read_json(folder / "done.json")
        return Done(
            name=name,
            result=record["result"],
            folder=folder,
            seconds=record["seconds"],
            hash=_digest({key: record[key] for key in ("inputs", "result", "files")}),
        )

    def _folder(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a step: use a-z, 0-9 and single hyphens")
        return self.path / "steps" / name

    def _check_kind(self) -> None:
        """Never work in, and never clear, a folder that holds something else."""
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(
                f"run_dir: {self.path} is a file.", hint="Give a folder, new or of an earlier run."
            )
        names = {path.name for path in self.path.iterdir()} if self.path.exists() else set()
        if names - {"lock"} and _record(self.path / _MARKER, "config") is None:
            raise ConfigError(
                f"run_dir: {self.path} is not empty and no run's folder.",
                hint="Choose a new or an empty folder.",
            )


def _differences(old: Any, new: Any, key: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*old, *(name for name in new if name not in old)]:
            inner = f"{key}.{name}" if key else name
            yield from _differences(old.get(name), new.get(name), inner)
    elif old != new:
        yield f"{key} was {json.dumps(old)}, is {json.dumps(new)}"


def _digest(value: Mapping[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True, default=_plain, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Done):
        return value.hash
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a step's input cannot be a {type(value).__name__}: use JSON values")


def _hashes(folder: Path) -> dict[str, str]:
    own = ("started.json", "done.json")
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    named = {str(path.relative_to(folder)): path for path in files}
    return {name: sha256(path) for name, path in named.items() if name not in own}


def _intact(folder: Path, files: Mapping[str, str]) -> bool:
    return all(
        (folder / name).is_file() and sha256(folder / name) == digest
        for name, digest in files.items()
    )


def _record(file: Path, key: str = "inputs") -> dict[str, Any] | None:
    """A record with a key that it must have; a damaged one counts as none."""
    try:
        record = read_json(file)
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and key in record else None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
