"""Policies as compiled networks: what the device says of them, before and after training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from mpqdeploy.core import LatencyRecord, Policy, Precision, Protocol
from mpqdeploy.core.files import read_json, write_json
from mpqdeploy.steps.drafting import Draft
from mpqdeploy.targets.fingerprint import host_fingerprint
from mpqdeploy.targets.library import Library
from mpqdeploy.targets.measure import Timer, at_clock_of, call_timer, measure_together
from mpqdeploy.targets.target import Target
from searching.digests import digest
from searching.setting import Setting, uniform

WIDEST = Precision(weight_bits=8, act_bits=8)
PROTOCOL = Protocol(warmup=10, samples=60, inner=10)


@dataclass(frozen=True)
class Drafts:
    """The networks of `setting` on `target`, each compiled once, by the kernels of `store` (URL).

    Libraries and what was measured lie in `folder`; every latency is read at the clock of the
    uniform 8/8 network, timed in turn with it.
    """

    setting: Setting
    target: Target
    store: str
    folder: Path

    @cached_property
    def wide(self) -> Policy:
        """The uniform 8/8 network: every draft's clock."""
        return uniform(self.setting.candidates, WIDEST)

    def timed(self, policy: Policy) -> LatencyRecord:
        """Its latency, measured once."""
        file = self._file(policy, "json")
        if not file.exists():
            write_json(file, self._measured(policy).to_json())
        return LatencyRecord.from_json(read_json(file))

    def together(self, policies: Mapping[str, Policy]) -> dict[str, LatencyRecord]:
        """All of them in turn, at the machine's clock of this moment."""
        timers = {name: self._timer(policy) for name, policy in policies.items()}
        return measure_together(timers, PROTOCOL, host_fingerprint())

    def _measured(self, policy: Policy) -> LatencyRecord:
        if policy == self.wide:
            return self.together({"8/8": policy})["8/8"]
        reference = self.timed(self.wide)
        records = self.together({"draft": policy, "8/8": self.wide})
        return at_clock_of(records["draft"], records["8/8"], reference)

    def _timer(self, policy: Policy) -> Timer:
        library = Library(self._library(policy))
        return call_timer(library.bound(library.random_inputs()))

    def _library(self, policy: Policy) -> Path:
        file = self._file(policy, "so")
        if file.exists():
            return file
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = Draft(
            spec=self.setting.spec,
            policy=policy,
            images=np.random.default_rng(0).random((16, *self.setting.spec.image), np.float32),
            seed=0,
            target=self.target,
            store=self.store,
        )
        return draft.compile(file)

    def _file(self, policy: Policy, suffix: str) -> Path:
        return self.folder / f"{digest(policy.to_json())}.{suffix}"
