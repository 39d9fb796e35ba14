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
from typing import TYPE_CHECKING

from mpqdeploy import __version__
from mpqdeploy.core import CostTable, LatencyRecord, Policy
from mpqdeploy.export.qonnx import export_qonnx
from mpqdeploy.nn import build_quantized, calibrate
from mpqdeploy.nn.training import seed_everything
from mpqdeploy.results import Round
from mpqdeploy.steps.context import WIDEST, Context
from mpqdeploy.targets.compile import compile_qonnx
from mpqdeploy.targets.fingerprint import short_hash
from mpqdeploy.targets.kernels import versions
from mpqdeploy.targets.library import Library
from mpqdeploy.targets.measure import Timer, at_clock_of, call_timer, measure, measure_together

if TYPE_CHECKING:
    from torch import nn


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
    compiled = _compile(context, policy, library)
    digest = _digest(context, policy)
    record = context.store.get_network(digest)
    if record is None:
        record = measure(_timer(context, compiled), context.protocol, context.fingerprint)
        context.store.put_network(digest, record)
    return Reference(record=record, library=library)


def time_draft(context: Context, label: str, policy: Policy, against: Reference) -> LatencyRecord:
    """Latency record of the policy's network, at the clock of the reference.

    A machine's clock drifts by more than an interval between two rounds, so the network is timed
    in turn with the reference and its samples are taken relative to that one's. What the record
    store has of this very network, target, machine, kernels and reference is read there: a run
    that repeats another one decides as that one did.
    """
    digest = _digest(context, policy, against.record)
    record = context.store.get_network(digest)
    if record is None:
        record = _time(context, label, policy, against)
        context.store.put_network(digest, record)
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
        "reference_us": against.median_us if against else None,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _time(context: Context, label: str, policy: Policy, against: Reference) -> LatencyRecord:
    with tempfile.TemporaryDirectory(prefix="mpqdeploy-") as folder:
        with context.ui.task("compiling drafts", 1) as task:
            library = _compile(context, policy, Path(folder) / "draft.so")
            task.advance(note=label)
        timers = {
            "draft": _timer(context, library),
            "reference": _timer(context, Library(against.library)),
        }
        records = measure_together(timers, context.protocol, context.fingerprint)
    return at_clock_of(records["draft"], records["reference"], against.record)


def _timer(context: Context, library: Library) -> Timer:
    return call_timer(library.bound(library.random_inputs()), threads=context.target.threads)


def _compile(context: Context, policy: Policy, library: Path) -> Library:
    net = untrained(context, policy)
    with tempfile.TemporaryDirectory(prefix="mpqdeploy-") as folder:
        model = Path(folder) / "model.qonnx.onnx"
        export_qonnx(net, context.spec.image, model)
        compile_qonnx(model, context.target, library, measured=context.measured())
    return Library(library)


def untrained(context: Context, policy: Policy) -> nn.Module:
    """The network with random weights and activation scales that fit them."""
    seed_everything(context.config.seed)
    net = build_quantized(context.spec, policy)
    calibrate(net, context.training_images(1))
    return net


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
        moves=moves,
        policy=policy,
    )
