"""How the next network is proposed: one engine per file, known by the file's name.

An engine's file has a class `Engine` with the one method of `Proposer`. Nothing else names it:
to add an engine is to add its file.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Protocol

from mpqdeploy.core import ConfigError
from mpqdeploy.core.suggest import did_you_mean
from mpqdeploy.search.bomp.history import History
from mpqdeploy.search.bomp.parameters import Point


class Proposer(Protocol):
    """The seam. The contract, which tests/search/bomp/test_engines.py holds every engine to: the
    answer is valid, and a function of `history` alone, whatever process asks."""

    def propose(self, history: History) -> Point:
        """The point of trial `history.number`."""
        ...


def engines() -> tuple[str, ...]:
    """The names of all engines."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def load_engine(name: str) -> Proposer:
    """The engine of that name; only its own file is imported. Raises `ConfigError`."""
    if name not in engines():
        raise ConfigError(
            f"there is no search engine {name!r}.",
            hint=f"{did_you_mean(name, engines())}Known: {', '.join(engines())}.",
        )
    engine: Proposer = importlib.import_module(f"{__name__}.{name}").Engine()
    return engine
