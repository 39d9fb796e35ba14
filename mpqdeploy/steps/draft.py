"""A draft: one policy exported, compiled and timed before anything is trained for it.

The latency of a compiled network does not depend on the values of its weights, so the loop can ask
the device about a policy in seconds, and fine-tunes only a network that is inside [o].
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mpqdeploy import __version__
from mpqdeploy.core import CostTable, LatencyRecord, Policy
from mpqdeploy.results import Round
from mpqdeploy.steps.context import WIDEST, Context
from mpqdeploy.steps.drafting import APART, Draft
from mpqdeploy.targets.fingerprint import short_hash
from mpqdeploy.targets.kernels import versions
from mpqdeploy.targets.library import Library
from mpqdeploy.targets.measure import Timer, at_clock_of, call_timer, measure, measure_together


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """The uniform 8/8 network: the clock by which every draft of a run is read.

    `record` is its latency as the run first knew it; `library` is timed again beside every draft.
    """

    record: LatencyRecord
    library: Path


def reference(context: Context, library: Path) -> Reference:
    """Compile the uniform 8/8 network to `library`; time it unless the record store knows it."""
    policy = context.uniform(WIDEST)
    Draft.of(context, policy).compile(library)
    digest = _digest(context, policy)
    record = context.store.get_network(digest)
    if record is None:
        record = measure(_timer(context, library), context.protocol, context.fingerprint)
        # Another machine on the same store may have been first: all of them read its record.
        record = context.store.get_network(digest) or record
        context.store.put_network(digest, record)
    return Reference(record=record, library=library)


def time_draft(context: Context, label: str, policy: Policy, against: Reference) -> LatencyRecord:
    """Latency record of the policy's network, at the clock of the reference.

    What the record store has of this very network, target, machine, kernels and reference is read
    there: a run that repeats another one decides as that one did.
    """
    record = known_draft(context, policy, against)
    if record is not None:
        return record
    with tempfile.TemporaryDirectory(prefix="mpqdeploy-") as folder:
        with context.ui.task("compiling drafts", 1) as task:
            library = Draft.of(context, policy).compile(Path(folder) / "draft.so")
            task.advance(note=label)
        return time_library(context, policy, library, against)


def known_draft(context: Context, policy: Policy, against: Reference) -> LatencyRecord | None:
    """What the record store has of the policy's network at the clock of this reference."""
    return context.store.get_network(_digest(context, policy, against.record))


def time_library(
    context: Context, policy: Policy, library: Path, against: Reference
) -> LatencyRecord:
    """Time the policy's network, compiled to `library`, and store its record.

    A machine's clock drifts by more than an interval between two rounds, so the network is timed
    in turn with the reference and its samples are taken relative to that one's.
    """
    timers = {
        "draft": _timer(context, library),
        "reference": _timer(context, against.library),
    }
    records = measure_together(timers, context.protocol, context.fingerprint)
    record = at_clock_of(records["draft"], records["reference"], against.record)
    context.store.put_network(_digest(context, policy, against.record), record)
    return record


def _digest(context: Context, policy: Policy, against: LatencyRecord | None = None) -> str:
    """Everything that a network's latency depends on, and what it was read against."""
    spec = context.spec
    content = {
        "model": [spec.name, spec.num_classes, spec.image, dict(spec.options)],
        "policy": policy.to_json(),
        "target": context.target.key,
        "machine": short_hash(context.fingerprint),
        "kernels": versions(),
        "protocol": vars(context.protocol),
        "mpqdeploy": __version__,
        "apart": APART,
        "reference_us": against.median_us if against else None,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _timer(context: Context, library: Path) -> Timer:
    loaded = Library(library)
    return call_timer(loaded.bound(loaded.random_inputs()), threads=context.target.threads)


def draft_round(
    index: int,
    name: str,
    policy: Policy,
    table: CostTable,
    record: LatencyRecord,
    limit: float,
    moves: int,
) -> Round:
    """What `table` promised for a policy beside what the device said."""
    return Round(
        index=index,
        name=name,
        predicted_us=table.of(policy),
        measured=record,
        search_limit_us=limit,
        offset_us=table.offset,
        scale=table.scale,
        factors=table.factors,
        moves=moves,
        policy=policy,
    )
