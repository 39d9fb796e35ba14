"""Measure: the searched network, its baselines and its rivals, timed in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mpqdeploy.config.sections import BudgetSection
from mpqdeploy.core import Budget, LatencyRecord
from mpqdeploy.results import Row
from mpqdeploy.run_folder import Done
from mpqdeploy.steps.context import REFERENCE, Context
from mpqdeploy.steps.deploy import LIBRARY, policy_of
from mpqdeploy.steps.rivals import FLOAT, INT8, bound
from mpqdeploy.targets.library import Library
from mpqdeploy.targets.measure import call_timer, measure_together

ONNXRUNTIME, COMPILED = "onnxruntime", "mpqdeploy"
SEARCHED = "searched"


def measure(
    context: Context,
    attempt: int,
    searched: Done,
    baselines: Mapping[str, Done],
    rivals: Done,
    floating: Done,
) -> Done:
    """Result: the rows of the final table as JSON, the searched network last."""
    inputs = {
        **context.config.part("measure", "target"),
        "searched": searched,
        "baselines": {name: done.hash for name, done in baselines.items()},
        "rivals": rivals,
    }

    def work(_: object) -> list[dict[str, Any]]:
        with context.ui.step("measure everything in turn"):
            networks = {**baselines, SEARCHED: searched}
            records = timed(context, networks, rivals)
        rows = [
            *rival_rows(context, rivals, floating, records),
            *(compiled_row(context, name, done, records[name]) for name, done in networks.items()),
        ]
        return [row.to_json() for row in rows]

    return context.folder.step(f"measure-{attempt}", inputs, work)


def rows_of(done: Done) -> tuple[Row, ...]:
    return tuple(Row.from_json(data) for data in done.result)


def reference_row(rows: Sequence[Row]) -> Row | None:
    """The uniform 8/8 network, if it is among the baselines."""
    return next((row for row in rows if row.name == REFERENCE), None)


def budgets_now(
    sections: Sequence[BudgetSection], budgets: Sequence[Budget], rows: Sequence[Row]
) -> tuple[Budget, ...]:
    """The budgets that the rows are held against.

    `limit: 75%` of the uniform 8/8 network's latency means that network as timed in turn with the
    others: a machine's clock drifts by more than an interval between the anchors and the end of a
    run [o]. Without that row, and for every other limit, the budget stays what it was.
    """
    wide = reference_row(rows)
    return tuple(
        section.parsed().resolve(wide.latency.median_us)
        if wide is not None and budget.metric == "latency" and section.parsed().relative
        else budget
        for section, budget in zip(sections, budgets, strict=True)
    )


def timed(
    context: Context, networks: Mapping[str, Done], rivals: Done | None
) -> dict[str, LatencyRecord]:
    """The libraries of deployed networks by name, and the rivals if there are any, in turn."""
    threads = context.target.threads
    calls: dict[str, Callable[[], object]] = {}
    if rivals is not None:
        for name in (FLOAT, INT8):
            calls[name] = bound(rivals.folder / name, context.spec.image, threads)
    for name, done in networks.items():
        library = Library(done.folder / LIBRARY)
        calls[name] = library.bound(library.random_inputs())
    timers = {name: call_timer(call, threads=threads) for name, call in calls.items()}
    return measure_together(timers, context.protocol, context.fingerprint)


def rival_rows(
    context: Context, rivals: Done, floating: Done, records: Mapping[str, LatencyRecord]
) -> tuple[Row, Row]:
    return (
        _rival(context, "float32", FLOAT, 4.0, rivals, floating, records),
        _rival(context, "int8", INT8, 1.0, rivals, floating, records),
    )


def _rival(
    context: Context,
    name: str,
    file: str,
    weight_bytes: float,
    rivals: Done,
    floating: Done,
    records: Mapping[str, LatencyRecord],
) -> Row:
    bits = 8 * weight_bytes
    return Row(
        name=name,
        runtime=ONNXRUNTIME,
        accuracy=rivals.result["accuracy"][file],
        latency=records[file],
        bytes=weight_bytes * sum(site.weights for site in context.sites),
        bops=bits * bits * sum(site.macs for site in context.sites),
        epochs=floating.result["epochs"],
    )


def compiled_row(context: Context, name: str, done: Done, record: LatencyRecord) -> Row:
    """A deployed network's row; `context` is about that network."""
    policy = policy_of(done)
    counted = context.counted
    return Row(
        name=name,
        runtime=COMPILED,
        accuracy=done.result["accuracy"],
        latency=record,
        bytes=counted["bytes"].of(policy),
        bops=counted["bops"].of(policy),
        epochs=done.result["epochs"],
        policy=policy,
    )
