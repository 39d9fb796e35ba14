"""Claim 3: accuracy against measured latency, searched under latency, under BOPs, and otherwise.

Searching under BOPs comes first. What the device says of each network found is then the latency
budget of the other methods, so that they are compared at equal measured latency.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from turns import ratio

from mpqdeploy.core import Budget, Policy, Precision
from mpqdeploy.core.files import read_json, write_json
from mpqdeploy.search import BpNas, BpNasSettings, Sensitivity
from mpqdeploy.search.engine import SearchEngine
from mpqdeploy.search.refit import Refit, Round, refit, sums
from mpqdeploy.ui import Ui
from searching.digests import digest
from searching.drafts import Drafts
from searching.setting import uniform
from searching.tuning import Tuning

COLUMNS = (
    "method", "budget", "rounds", "latency, us", "of 8/8", "GBOPs", "KiB", "test accuracy",
)  # fmt: skip
BOPS, LATENCY, PROGRAM, UNIFORM = "bops", "latency", "program", "uniform"
ROUNDS = 3
NEAR = 0.97
"""Share of a latency limit that counts as equal to it."""

Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class _Draft:
    us: float
    policy: Policy
    moves: int


class Fronts:
    """One front: every search, draft and fine-tuning of it lies in `folder`."""

    def __init__(
        self, drafts: Drafts, settings: BpNasSettings, tuning: Tuning, folder: Path, ui: Ui
    ) -> None:
        self._drafts = drafts
        self._setting = drafts.setting
        self._settings = settings
        self._tuning = tuning
        self._folder = folder
        self._ui = ui

    def records(self, rooms: Sequence[float], precisions: Sequence[Precision]) -> list[Record]:
        """One per network, with its accuracy and with all latencies taken in turn at the end."""
        found = [self._uniform(precision) for precision in precisions]
        for room in rooms:
            under_bops = self._under_bops(room)
            limit = Budget(metric="latency", limit=under_bops["latency_us"])
            found += [
                under_bops,
                self._under_latency(LATENCY, BpNas(self._settings), limit, room),
                self._under_latency(PROGRAM, Sensitivity(), limit, room),
            ]
        for record in found:
            self._ui.note(f"fine-tuning {record['name']}")
            record["test_accuracy"] = self._tuning.accuracy(Policy.from_json(record["policy"]))
            record["epochs"] = self._tuning.epochs
        return self._timed(found)

    def _uniform(self, precision: Precision) -> Record:
        policy = uniform(self._setting.candidates, precision)
        return self._kept(f"{UNIFORM}-{precision}", UNIFORM, lambda: (policy, {}))

    def _under_bops(self, room: float) -> Record:
        budget = self._setting.budget("bops", room)

        def work() -> tuple[Policy, Record]:
            problem = self._setting.problem(budget)
            result = BpNas(self._settings).search(problem, self._folder / "search" / name)
            return result.policy, {"moves": result.moves, "limit": budget.limit, "room": room}

        name = f"{BOPS}-{room:.3f}"
        return self._kept(name, BOPS, work)

    def _under_latency(
        self, method: str, engine: SearchEngine, limit: Budget, room: float
    ) -> Record:
        """Search, ask the device, correct the table and search on, at most `ROUNDS` times.

        Of the drafts inside the limit, or of all where none is, the nearest to it counts.
        """
        name = f"{method}-{room:.3f}"

        def work() -> tuple[Policy, Record]:
            made: list[_Draft] = []
            while len(made) < ROUNDS and not (made and self._enough(made[-1], limit)):
                fit = self._fit(limit, [draft.policy for draft in made])
                problem = self._setting.corrected(fit.table).problem(fit.budget)
                result = engine.search(problem, self._folder / "search" / name)
                took = self._drafts.timed(result.policy).median_us
                made.append(_Draft(us=took, policy=result.policy, moves=result.moves))
                self._ui.note(f"  {name}: round {len(made)}, {took:.1f} of {limit.limit:.1f} us")
            inside = [draft for draft in made if limit.holds(draft.us)]
            best = min(inside or made, key=lambda draft: abs(draft.us - limit.limit))
            facts = {"moves": best.moves, "limit": limit.limit, "room": room, "rounds": len(made)}
            return best.policy, facts | {"inside": bool(inside)}

        return self._kept(name, method, work)

    def _enough(self, draft: _Draft, limit: Budget) -> bool:
        """Inside, and not worth another round: near the limit, or nothing is wider."""
        near = draft.us >= NEAR * limit.limit or draft.policy == self._drafts.wide
        return limit.holds(draft.us) and near

    def _fit(self, limit: Budget, searched: Sequence[Policy]) -> Refit:
        """The latency table corrected by two anchors and by what was searched so far."""
        table = self._setting.tables["latency"]
        choices = self._setting.candidates
        least = Policy(precisions={s: min(choices[s], key=partial(table.cost, s)) for s in choices})
        anchors = [self._drafts.wide, least]
        rounds = [
            Round.of(table, policy, self._drafts.timed(policy)) for policy in (*anchors, *searched)
        ]
        missed = sum(not limit.holds(turn.measured) for turn in rounds[len(anchors) :])
        return refit(table, limit, rounds, least=sums(table, least), misses=missed)

    def _kept(self, name: str, method: str, work: Callable[[], tuple[Policy, Record]]) -> Record:
        """What `work` found, with its costs and its draft's latency; made once."""
        file = self._folder / f"{name.replace('/', '-')}.json"
        if not file.exists():
            started = time.perf_counter()
            policy, facts = work()
            seconds = time.perf_counter() - started
            record = self._drafts.timed(policy)
            costs = {metric: table.of(policy) for metric, table in self._setting.tables.items()}
            document = {
                "name": name,
                "method": method,
                "policy": policy.to_json(),
                "seconds": seconds,
                "latency_us": record.median_us,
                "latency_interval_us": record.interval_us,
                "bops": costs["bops"],
                "bytes": costs["bytes"],
                **facts,
            }
            write_json(file, document)
            self._ui.note(f"  {name}: {record.median_us:.1f} us, {seconds:.0f} s")
        found: Record = read_json(file)
        return found

    def _timed(self, records: list[Record]) -> list[Record]:
        """With the latencies of one measurement, every distinct network once, in turn."""
        policies = [Policy.from_json(record["policy"]) for record in records]
        every = (self._drafts.wide, *policies)
        taken = self._drafts.together({digest(p.to_json()): p for p in every})
        wide = taken[digest(self._drafts.wide.to_json())]
        for record, policy in zip(records, policies, strict=True):
            found = taken[digest(policy.to_json())]
            record["latency_us"] = found.median_us
            record["latency_interval_us"] = found.interval_us
            of_wide = ratio(found.samples_us, wide.samples_us)
            record["of_wide"] = (of_wide.median, of_wide.low, of_wide.high)
        return records


def summary(records: Sequence[Record]) -> list[list[str]]:
    """A row per network."""
    return [_row(record) for record in records]


def verdicts(records: Sequence[Record]) -> list[str]:
    """For each latency: what searching under latency gains over searching under BOPs."""
    by = {(r["method"], r.get("room")): r for r in records}
    lines = []
    for (method, room), under_bops in by.items():
        under_latency = by.get((LATENCY, room))
        if method != BOPS or under_latency is None:
            continue
        gain = 100 * (under_latency["test_accuracy"] - under_bops["test_accuracy"])
        change = under_latency["latency_us"] / under_bops["latency_us"] - 1
        lines.append(
            f"at the latency of {under_bops['bops'] / 1e9:.3f} GBOPs: "
            f"{gain:+.2f} points, {100 * change:+.1f} % latency"
        )
    return lines


def _row(record: Record) -> list[str]:
    low, high = record["latency_interval_us"]
    middle, below, above = record["of_wide"]
    return [
        record["name"],
        _budget(record),
        str(record.get("rounds", "")),
        f"{record['latency_us']:.1f} [{low:.1f}, {high:.1f}]",
        f"{middle:.3f} [{below:.3f}, {above:.3f}]",
        f"{record['bops'] / 1e9:.3f}",
        f"{record['bytes'] / 1024:.1f}",
        f"{100 * record['test_accuracy']:.2f} %",
    ]


def _budget(record: Record) -> str:
    if "limit" not in record:
        return ""
    if record["method"] == BOPS:
        return f"{record['limit'] / 1e9:.3f} GBOPs"
    return f"{record['limit']:.1f} us" + ("" if record["inside"] else ", missed")
