"""Random search: what every other engine has to beat."""

from __future__ import annotations

from mpqdeploy.search.bomp.history import History
from mpqdeploy.search.bomp.parameters import Point


class Engine:
    def propose(self, history: History) -> Point:
        return history.drawn()
