from __future__ import annotations

import subprocess
import sys
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpqdeploy.core import Geometry, Precision, Protocol, Site, TargetError
from mpqdeploy.targets import trial
from mpqdeploy.targets.candidates import TIE, candidates, fastest, ranking
from mpqdeploy.targets.devices.local import LocalDevice
from mpqdeploy.targets.fingerprint import host_fingerprint, short_hash
from mpqdeploy.targets.profile import profile
from mpqdeploy.targets.records import Entry, RecordStore
from mpqdeploy.targets.target import load_target
from mpqdeploy.targets.turns import in_quietest_turns
from tests.targets.fakes import CopyKernel

HOST = load_target("host")
MACHINE = short_hash(host_fingerprint())
SMALL = Geometry(op="conv", in_channels=16, out_channels=16, in_size=(4, 4), kernel=(3, 3))
OTHER = Geometry(op="conv", in_channels=16, out_channels=32, in_size=(4, 4), kernel=(1, 1))
WIDE, NARROW = Precision.parse("8/8"), Precision.parse("2/2")
SITES = (
    Site(name="first", geometry=OTHER, pinned=WIDE),
    Site(name="a", geometry=SMALL),
    Site(name="b", geometry=SMALL),
)
FAST = Protocol(warmup=1, samples=5, inner=1)


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    return RecordStore(f"sqlite:///{tmp_path / 'latency.sqlite'}")


def test_the_table_holds_the_fastest_candidate_of_every_site(store: RecordStore) -> None:
    slow, fast = CopyKernel("slow", [4000]), CopyKernel("fast", [40, 10])
    seen: list[tuple[int, int, str]] = []
    table = profile(
        SITES,
        (WIDE, NARROW),
        HOST,
        store,
        protocol=FAST,
        progress=lambda *event: seen.append(event),
        kernels=(slow, fast),
    )
    assert (table.metric, table.unit) == ("latency", "us")
    assert set(table.entries["first"]) == {WIDE}
    assert set(table.entries["a"]) == {WIDE, NARROW}
    assert table.entries["a"] == table.entries["b"]
    for site, precision in (("first", WIDE), ("a", WIDE), ("b", NARROW)):
        geometry = next(s.geometry for s in SITES if s.name == site)
        choices = candidates(geometry, precision, HOST, MACHINE, (slow, fast))
        winner = ranking(store, geometry, precision, HOST, kernels=(slow, fast))[0]
        assert winner == ("fast", {"work": 10})
        record = store.get(choices[-1].key)
        assert record is not None
        assert table.cost(site, precision) == record.median_us > 0
    assert seen[0] == (0, 9, "")
    assert seen[-1][:2] == (9, 9)


def test_a_site_that_runs_several_times_costs_the_sum(store: RecordStore) -> None:
    shared = Site(name="head", geometry=SMALL, again=(OTHER, SMALL))
    sites = (*SITES, shared)
    table = profile(sites, (WIDE,), HOST, store, protocol=FAST, kernels=(CopyKernel("copy", [9]),))
    once, other = table.cost("a", WIDE), table.cost("first", WIDE)
    assert table.cost("head", WIDE) == pytest.approx(2 * once + other)


def test_a_hopeless_candidate_is_pruned_after_a_sketch(store: RecordStore) -> None:
    kernel = CopyKernel("copy", [20, 20_000, 10])
    profile(SITES[:1], (WIDE,), HOST, store, protocol=FAST, kernels=(kernel,))
    entries = store.entries(HOST.key, MACHINE)
    pruned = {entry.schedule["work"]: entry.pruned for entry in entries.values()}
    assert set(pruned) == {20, 20_000, 10}
    assert pruned[20_000]
    assert not pruned[10]


class _Slowed(LocalDevice):
    """A machine whose clock is slow until the second library is loaded, and keeps no other time."""

    loaded = 0

    def load(self, library: Path) -> Any:
        self.loaded += 1
        return super().load(library)

    def time(self, *args: Any, **counts: Any) -> tuple[float, ...]:
        return (2500.0 if self.loaded < 2 else 1000.0,) * int(counts["samples"])


def test_a_default_is_not_pruned_for_what_the_clock_did_before(store: RecordStore) -> None:
    kernel = CopyKernel("copy", [10, 20])
    profile(SITES[:1], (WIDE,), HOST, store, protocol=FAST, kernels=(kernel,), device=_Slowed(HOST))
    entries = store.entries(HOST.key, MACHINE).values()
    assert [entry.pruned for entry in entries] == [False, False]
    assert ranking(store, OTHER, WIDE, HOST, kernels=(kernel,))[0] == ("copy", {"work": 10})


def test_a_hopeless_kernel_is_tried_with_its_default_schedule_alone(store: RecordStore) -> None:
    good, bad = CopyKernel("good", [10, 20]), CopyKernel("bad", [20_000, 5, 6])
    for _ in range(2):  # the second profile knows it from the store
        profile(SITES[:1], (WIDE,), HOST, store, protocol=FAST, kernels=(good, bad))
        assert good.emitted == [10, 20]
        assert bad.emitted == [20_000]
    assert ranking(store, OTHER, WIDE, HOST, kernels=(good, bad))[0] == ("good", {"work": 10})


def test_a_kernel_whose_default_alone_is_hopeless_is_not_tried_again(store: RecordStore) -> None:
    # Not so hopeless that its other schedules are left out, of which one wins; the other kernel is.
    kernels = CopyKernel("won", [2_000, 10]), CopyKernel("lost", [40_000, 5])
    for _ in range(2):
        profile(SITES[:1], (WIDE,), HOST, store, protocol=FAST, kernels=kernels)
        assert [kernel.emitted for kernel in kernels] == [[2_000, 10], [40_000]]
    assert ranking(store, OTHER, WIDE, HOST, kernels=kernels)[0] == ("won", {"work": 10})


def test_what_lost_to_a_kernel_that_is_gone_is_timed_again(store: RecordStore) -> None:
    good, bad = CopyKernel("good", [10, 20]), CopyKernel("bad", [20_000, 5, 6])
    profile(SITES[:1], (WIDE,), HOST, store, protocol=FAST, kernels=(good, bad))
    assert len(ranking(store, OTHER, WIDE, HOST, kernels=(bad,))) == 0
    for _ in range(2):
        profile(SITES[:1], (WIDE,), HOST, store, protocol=FAST, kernels=(bad,))
        assert bad.emitted == [20_000, 20_000, 5, 6]
        name, schedule = ranking(store, OTHER, WIDE, HOST, kernels=(bad,))[0]
        assert (name, schedule["work"]) in {("bad", 5), ("bad", 6)}


def test_a_second_profile_compiles_nothing_and_gives_the_same_table(store: RecordStore) -> None:
    kernel = CopyKernel("copy", [10, 20])
    first = profile(SITES, (NARROW,), HOST, store, protocol=FAST, kernels=(kernel,))
    assert len(kernel.emitted) == 4  # two distinct layers, though three sites
    again = profile(SITES, (NARROW,), HOST, store, protocol=FAST, kernels=(kernel,))
    assert len(kernel.emitted) == 4
    assert again == first


def test_a_killed_profile_continues_from_what_is_stored(store: RecordStore) -> None:
    kernel = CopyKernel("copy", [10, 20])

    class KilledError(Exception):
        pass

    def kill(done: int, total: int, what: str) -> None:
        if what.startswith("timed"):
            raise KilledError

    with pytest.raises(KilledError):
        profile(SITES, (NARROW,), HOST, store, protocol=FAST, kernels=(kernel,), progress=kill)
    assert len(store.entries(HOST.key, MACHINE)) == 2
    kernel.emitted.clear()
    table = profile(SITES, (NARROW,), HOST, store, protocol=FAST, kernels=(kernel,))
    assert len(kernel.emitted) == 2
    assert set(table.entries) == {"first", "a", "b"}


def test_what_is_compared_was_timed_together(
    store: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine's clock may be another one later: old records and new ones say nothing."""
    # A disturbed sketch must not prune one of them.
    monkeypatch.setattr(trial, "HOPELESS", inf)
    monkeypatch.setattr(trial, "HOPELESS_KERNEL", inf)
    old, new = CopyKernel("old", [500, 501]), CopyKernel("new", [502])
    profile(SITES[1:2], (WIDE,), HOST, store, protocol=FAST, kernels=(old,))
    old.emitted.clear()
    seen = []

    def see(done: int, total: int, what: str) -> None:
        seen.append((done, total))

    for kernels, precisions, emitted in (
        ((old, new), (WIDE,), [500, 501, 502]),
        ((old, new), (WIDE, NARROW), [500, 500, 501, 501, 502, 502]),
        ((old, new), (WIDE, NARROW), []),
    ):
        old.emitted.clear()
        new.emitted.clear()
        seen.clear()
        profile(SITES[1:2], precisions, HOST, store, protocol=FAST, kernels=kernels, progress=see)
        assert sorted(old.emitted + new.emitted) == sorted(emitted)
        assert seen[0] == (3 * len(precisions) - len(emitted), 3 * len(precisions))
        assert seen[-1] == (3 * len(precisions), 3 * len(precisions))


def test_a_changed_kernel_is_measured_again(store: RecordStore) -> None:
    for version in (1, 2):
        kernel = CopyKernel("copy", [10], version=version)
        assert ranking(store, OTHER, WIDE, HOST, kernels=(kernel,)) == ()
        profile(SITES[:1], (WIDE,), HOST, store, protocol=FAST, kernels=(kernel,))
        assert kernel.emitted == [10]
        assert ranking(store, OTHER, WIDE, HOST, kernels=(kernel,))[0] == ("copy", {"work": 10})


def test_a_site_without_a_kernel_is_named_before_anything_is_compiled(store: RecordStore) -> None:
    kernel = CopyKernel("copy", [10], bits=4)
    with pytest.raises(TargetError, match=r"no kernel for site 'a' at 2/2"):
        profile(SITES, (WIDE, NARROW), HOST, store, kernels=(kernel,))
    assert not kernel.emitted


def test_threads_of_the_record_are_the_targets(store: RecordStore) -> None:
    kernel = CopyKernel("copy", [10])
    protocol = Protocol(warmup=1, samples=3, inner=1, threads=7, batch=9)
    profile(SITES[:1], (WIDE,), HOST, store, protocol=protocol, kernels=(kernel,))
    record = store.get(candidates(OTHER, WIDE, HOST, MACHINE, (kernel,))[0].key)
    assert record is not None
    assert (record.protocol.threads, record.protocol.batch) == (HOST.threads, 1)


def test_the_least_disturbed_turns_decide() -> None:
    """A median says how many of a candidate's samples somebody else's work fell on."""
    first, second, third = candidates(OTHER, WIDE, HOST, MACHINE, (CopyKernel("copy", [1, 2, 3]),))

    def entry(*samples: float, pruned: bool = False) -> Entry:
        median = float(np.median(samples))
        return Entry(
            kernel="copy", schedule={}, median_us=median, samples_us=samples, pruned=pruned
        )

    stored = {
        first.digest: entry(11.0, 20.0, 20.0, 11.0, 20.0, 11.0),
        second.digest: entry(10.0, 35.0, 35.0, 10.0, 35.0, 10.0),
        third.digest: entry(9.0, pruned=True),
    }
    choices = (first, second, third)
    assert fastest(choices, stored) is second
    tied = {**stored, second.digest: entry(10.9, 20.0, 20.0, 10.9, 20.0, 10.9)}
    assert fastest(choices, tied) is first  # as fast: the first is preferred
    assert fastest(choices, {}) is None


def test_registered_kernels_are_compiled_and_timed(
    store: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "HOPELESS", inf)
    monkeypatch.setattr(trial, "HOPELESS_KERNEL", inf)
    precision = Precision.parse("1/2")
    table = profile(SITES[1:2], (precision,), HOST, store, protocol=FAST)
    choices = candidates(SMALL, precision, HOST, MACHINE)
    ranked = ranking(store, SMALL, precision, HOST)
    entries = store.entries(HOST.key, MACHINE)
    by_kernel = {(c.kernel.name, str(c.schedule)): entries[c.digest].samples_us for c in choices}
    left = [by_kernel[name, str(schedule)] for name, schedule in ranked]
    assert len(left) > 1
    while left:  # each is as fast as any that is left
        took = in_quietest_turns(dict(enumerate(left)))
        assert took[0] <= TIE * min(took.values())
        left = left[1:]
    timed = {entry.kernel for entry in store.entries(HOST.key, MACHINE).values()}
    assert timed == {choice.kernel.name for choice in choices}
    assert table.cost("a", precision) > 0


WARM = """
import sys
from math import inf
from tests.targets.test_profile import FAST, HOST, NARROW, SITES
from tests.targets.fakes import CopyKernel
from mpqdeploy.targets.profile import profile
from mpqdeploy.targets.records import RecordStore
profile(SITES, (NARROW,), HOST, RecordStore(sys.argv[1]), kernels=(CopyKernel("copy", [10]),))
print(sorted({"tvm", "torch", "onnx"} & set(sys.modules)))
"""


def test_a_warm_profile_loads_no_compiler(store: RecordStore) -> None:
    profile(SITES, (NARROW,), HOST, store, protocol=FAST, kernels=(CopyKernel("copy", [10]),))
    command = [sys.executable, "-c", WARM, store.name]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2]
    )
    assert done.stdout.strip() == "[]", done.stderr


class _Disturbed(LocalDevice):
    """A machine on which another program runs until `calm`, and slows a kernel's default most."""

    calm = False

    def __init__(self) -> None:
        super().__init__(HOST)
        self.loaded: list[Any] = []

    def load(self, library: Path) -> Any:
        self.loaded.append(super().load(library))
        return self.loaded[-1]

    def time(self, module: Any, function: str, *args: Any, **counts: Any) -> tuple[float, ...]:
        default = self.loaded.index(module) % 2 == 0
        far = not default and function == "candidate_1"
        took = (1400.0, 1400.0) if far else (1150.0, 900.0) if default else (1000.0, 990.0)
        return (took[self.calm],) * int(counts["samples"])


def test_what_is_close_is_timed_again_after_all_other_layers(store: RecordStore) -> None:
    kernel, device, seen = CopyKernel("copy", [10, 20, 30]), _Disturbed(), []

    def see(done: int, total: int, what: str) -> None:
        seen.append(what)
        device.calm = what.startswith("timing again")

    profile(
        SITES, (WIDE,), HOST, store, protocol=FAST, kernels=(kernel,), device=device, progress=see
    )
    assert [what.startswith("timing again") for what in seen[-3:]] == [False, True, True]
    for geometry in (OTHER, SMALL):
        works = [way["work"] for _, way in ranking(store, geometry, WIDE, HOST, kernels=(kernel,))]
        assert works == [10, 20, 30]
        choices = candidates(geometry, WIDE, HOST, MACHINE, (kernel,))
        records = [store.get(choice.key) for choice in choices]
        counts = [len(record.samples_us) for record in records if record]
        assert counts[0] == counts[1] == 2 * counts[2]
        assert [record.protocol.samples for record in records if record] == counts


def test_a_winner_that_is_alone_is_timed_once(store: RecordStore) -> None:
    seen: list[str] = []
    profile(
        SITES[:1],
        (WIDE,),
        HOST,
        store,
        protocol=FAST,
        kernels=(CopyKernel("copy", [10]),),
        progress=lambda done, total, what: seen.append(what),
    )
    assert not any(what.startswith("timing again") for what in seen)
