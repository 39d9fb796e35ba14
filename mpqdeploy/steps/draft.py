"""A draft: one policy exported, compiled and timed before anything is trained for it.

The latency of a compiled network does not depend on the values of its weights, so the loop can ask
the device about a policy in seconds, and fine-tunes only a network that is inside [o].
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mpqdeploy import __version__
from mpqdeploy.core import CostTable, LatencyRecord, Policy
from mpqdeploy.export.qonnx import export_qonnx
from mpqdeploy.nn import build_quantized, calibrate
from mpqdeploy.nn.training import seed_everything
from mpqdeploy.results import Round
from mpqdeploy.steps.context import Context
from mpqdeploy.targets.compile import compile_qonnx
from mpqdeploy.targets.fingerprint import short_hash
from mpqdeploy.targets.kernels import KERNELS
from mpqdeploy.targets.library import Library
from mpqdeploy.targets.measure import call_timer, measure_together

if TYPE_CHECKING:
    from torch import nn


def time_drafts(context: Context, policies: Mapping[str, Policy]) -> dict[str, LatencyRecord]:
    """Latency records of the policies' networks, by the names given.

    What the record store has of this very network, target, machine and kernels is read there: a
    run that repeats another one decides as that one did. The rest is timed in turn.
    """
    digests = {label: _digest(context, policy) for label, policy in policies.items()}
    known = {label: context.store.get_network(digest) for label, digest in digests.items()}
    records = {label: record for label, record in known.items() if record is not None}
    missing = {label: policy for label, policy in policies.items() if label not in records}
    if missing:
        for label, record in _time(context, missing).items():
            context.store.put_network(digests[label], record)
            records[label] = record
    return records


def _digest(context: Context, policy: Policy) -> str:
    """Everything that a network's latency depends on."""
    spec = context.spec
    content = {
        "model": [spec.name, spec.num_classes, spec.image, dict(spec.options)],
        "policy": policy.to_json(),
        "target": context.target.key,
        "machine": short_hash(context.fingerprint),
        "kernels": [[kernel.name, kernel.version] for kernel in KERNELS],
        "protocol": vars(context.protocol),
        "mpqdeploy": __version__,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _time(context: Context, policies: Mapping[str, Policy]) -> dict[str, LatencyRecord]:
    with tempfile.TemporaryDirectory(prefix="mpqdeploy-") as name:
        libraries = {}
        with context.ui.task("compiling drafts", len(policies)) as task:
            for label, policy in policies.items():
                libraries[label] = _compile(context, policy, Path(name) / label.replace("/", "-"))
                task.advance(note=label)
        timers = {
            label: call_timer(
                library.bound(library.random_inputs()), threads=context.target.threads
            )
            for label, library in libraries.items()
        }
        return measure_together(timers, context.protocol, context.fingerprint)


def _compile(context: Context, policy: Policy, folder: Path) -> Library:
    net = untrained(context, policy)
    export_qonnx(net, context.spec.image, folder / "model.qonnx.onnx")
    compiled = compile_qonnx(
        folder / "model.qonnx.onnx",
        context.target,
        folder / "model.so",
        measured=context.measured(),
    )
    return Library(compiled.library)


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
