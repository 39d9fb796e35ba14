"""A trial of bomp-nas: a point of the space built, trained a little, compiled and timed.

    another process   export and compile ─────────────────┐
    this one          train, quantize, tune ─► next trial ┴─► time

What is compiled has random weights, because latency does not depend on them, so compiling need not
wait for training, nor the next trial's training for compiling. Timing waits for both, and pauses
the other process: nothing of this run computes meanwhile.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from mpqdeploy.config import Config
from mpqdeploy.core import LatencyRecord, UserError
from mpqdeploy.nn.training.loop import OnProgress
from mpqdeploy.search.bomp import Outcome, Point
from mpqdeploy.search.bomp.networks import Network, Networks
from mpqdeploy.search.bomp.training import Accuracies, Fidelity, accuracies
from mpqdeploy.search.bomp.worker import Ending
from mpqdeploy.steps.ahead import Ahead, finished
from mpqdeploy.steps.context import Context
from mpqdeploy.steps.draft import Reference, known_draft, time_library
from mpqdeploy.steps.drafting import Draft

LIBRARY = "draft.so"


def fidelity_of(config: Config) -> Fidelity:
    """The full training's recipes with the epochs of a trial."""
    bomp = config.search.bomp
    return Fidelity(
        training=replace(config.train.recipe(), epochs=bomp.epochs),
        tuning=replace(config.finetune.recipe(), epochs=bomp.qaft_epochs),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Trials:
    """Evaluates points: call it as `Study.run` does.

    `scratch` holds what the trial in hand has trained so far, so that a killed one goes on there.
    """

    context: Context
    networks: Networks
    against: Reference
    ahead: Ahead
    scratch: Path

    def __call__(self, point: Point, number: int) -> Ending:
        """Train a point's network; the ending waits for its library, and times that.

        Accuracy is on the validation split; costs are bytes, BOPs, and latency as measured on the
        target. Raises the `UserError` of a training that diverged, the ending that of a network
        that does not compile.
        """
        key = self.networks.space.key(point)
        folder = self.scratch / hashlib.sha256(key.encode()).hexdigest()[:12]
        network = self.networks.network(point)
        with _removed_on_failure(folder):
            started = time.monotonic()
            folder.mkdir(parents=True, exist_ok=True)
            latency = self._latency(network, folder / LIBRARY)
            found = self._accuracies(network, number, folder)
            trained = time.monotonic() - started
        return partial(self._ended, network, folder, found, latency, trained)

    def _ended(
        self,
        network: Network,
        folder: Path,
        found: Accuracies,
        latency: Callable[[], LatencyRecord],
        trained: float,
    ) -> Outcome:
        with _removed_on_failure(folder):
            started = time.monotonic()
            record = latency()
        shutil.rmtree(folder)
        return Outcome(
            accuracy=found.tuned,
            costs={**network.counted, "latency": record.median_us},
            seconds=trained + time.monotonic() - started,
            details={
                "accuracies": found.to_json(),
                "latency_interval_us": list(record.interval_us),
                "policy": network.policy.to_json(),
                "training_seconds": trained,
            },
        )

    def _latency(self, network: Network, library: Path) -> Callable[[], LatencyRecord]:
        """Begin to compile, unless the record store knows the network; the record when called."""
        policy = network.policy
        place = self.context.about(network.spec, network.sites)
        known = known_draft(place, policy, self.against)
        if known is not None:
            return lambda: known
        draft = Draft.of(place, policy)
        compiling = self.ahead.begin(draft, library)

        def timed() -> LatencyRecord:
            try:
                compiling.result()
            except BrokenProcessPool:  # perhaps by another trial's draft
                finished(self.ahead.begin(draft, library))
            with self.ahead.paused():
                return time_library(place, policy, library, self.against)

        return timed

    def _accuracies(self, network: Network, number: int, folder: Path) -> Accuracies:
        context, fidelity = self.context, fidelity_of(self.context.config)
        with context.ui.task(f"trial {number}", fidelity.steps(context.dataset)) as task:

            def on_phase(phase: str) -> OnProgress:
                return lambda now: task.advance(note=f"{phase} epoch {now.epoch}/{now.epochs}")

            return accuracies(
                network,
                context.dataset,
                fidelity,
                folder,
                seed=context.config.seed,
                device=context.config.device,
                on_phase=on_phase,
            )


@contextmanager
def _removed_on_failure(folder: Path) -> Iterator[None]:
    """What a trial has trained is of no use once it failed."""
    try:
        yield
    except UserError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
