"""`Ui`: what a command shows. Progress and notes go to stderr, results to stdout."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

_PLAIN_INTERVAL_S = 5.0
"""How often progress makes a line where it cannot redraw one."""


class Task:
    """A stretch of work with a known length; `Ui.task` makes it."""

    def __init__(self, ui: Ui, label: str, total: int, bar: Progress | None) -> None:
        self._ui = ui
        self._label = label
        self._total = total
        self._bar = bar
        self._id = bar.add_task(label, total=total, note="") if bar is not None else None
        self._done = 0
        self._next_line = time.monotonic() + _PLAIN_INTERVAL_S

    def advance(self, count: int = 1, note: str = "") -> None:
        """`count` more of the total are done; `note` is a short remark (a loss, a name)."""
        self.reach(self._done + count, note)

    def resize(self, total: int) -> None:
        """The work turned out to have another length."""
        self._total = total
        if self._bar is not None and self._id is not None:
            self._bar.update(self._id, total=total)

    def track(self, done: int, total: int, note: str = "") -> None:
        """`done` of a total that may have changed: the shape of a profile's progress."""
        self.resize(total)
        self.reach(done, note)

    def reach(self, done: int, note: str = "") -> None:
        """`done` of the total are done."""
        self._done = done
        if self._bar is not None and self._id is not None:
            self._bar.update(self._id, completed=done, note=note)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _PLAIN_INTERVAL_S
            self._ui.note(f"  {self._label}: {done}/{self._total} {note}".rstrip())


class Ui:
    """Bars on a terminal, a line every few seconds elsewhere, nothing where `quiet`.

    With `as_json`, tables are left out and `result` prints one JSON document; stdout holds that
    and nothing else.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self._notes = Console(stderr=True, highlight=False, soft_wrap=True)
        self._results = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
        self._bar: Progress | None = None

    def note(self, message: str) -> None:
        """A line on stderr, above any bar."""
        if not self.quiet:
            self._notes.print(message, markup=False)

    def warn(self, message: str) -> None:
        """A line on stderr, also where quiet."""
        self._notes.print(f"warning: {message}", markup=False, style="yellow")

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Say that a step starts, and how long it took."""
        self.note(f"{name} ...")
        started = time.monotonic()
        yield
        self.note(f"{name}: done in {time.monotonic() - started:.1f} s")

    @contextmanager
    def task(self, label: str, total: int) -> Iterator[Task]:
        """Show progress through `total` parts while the block runs; tasks may nest."""
        if self.quiet or not self._notes.is_terminal:
            yield Task(self, label, total, None)
            return
        if self._bar is not None:
            yield Task(self, label, total, self._bar)
            return
        columns = (
            TextColumn("  {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=self._notes, transient=True) as bar:
            self._bar = bar
            try:
                yield Task(self, label, total, bar)
            finally:
                self._bar = None

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table on stdout; the first column is text, the others are right-aligned."""
        if self.as_json:
            return
        table = Table(title=Text(title), title_justify="left")
        for position, column in enumerate(columns):
            table.add_column(column, justify="left" if position == 0 else "right")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        if self._results.is_terminal:
            self._results.print(table)
        else:  # a pipe has no width to fit into
            Console(highlight=False, width=200).print(table)

    def say(self, message: str) -> None:
        """A line of the result, on stdout."""
        if not self.as_json:
            self._results.print(message, markup=False)

    def result(self, data: Any) -> None:
        """The result for programs: with `as_json` one JSON document on stdout, else nothing."""
        if self.as_json:
            sys.stdout.write(json.dumps(data, indent=2) + "\n")
            sys.stdout.flush()
