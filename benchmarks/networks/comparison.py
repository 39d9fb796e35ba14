"""One network's comparison: everybody's program made ready, then timed in turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mpqdeploy.core import Protocol
from mpqdeploy.targets.compile import Compiled
from mpqdeploy.targets.devices import pinned
from mpqdeploy.targets.fingerprint import host_fingerprint
from mpqdeploy.targets.library import Library
from mpqdeploy.targets.measure import Timer, call_timer, measure_together
from mpqdeploy.targets.passes.integerize import integerize
from mpqdeploy.targets.passes.normalize import normalize
from mpqdeploy.targets.records import RecordStore
from mpqdeploy.targets.target import Target
from mpqdeploy.ui import Ui
from networks import limit, ours, peers, steps, zoo
from networks.table import OURS, Row, better_peer, limit_us, to_json

TURN_US = 20_000.0
LEAST_TURNS = 15
HEAT = Protocol(warmup=1, samples=5, inner=1)
PEAK = "peak"


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """A program that takes part: a row without its latency."""

    runtime: str
    precision: str
    how: str
    run: peers.Run
    file_bytes: int


class Comparison:
    """One network: its files in `folder`, its entrants, and what came of them."""

    def __init__(self, network: zoo.Network, target: Target, folder: Path, ui: Ui) -> None:
        self.network = network
        self.target = target
        self.folder = folder
        self.ui = ui
        self.macs = sum(site.macs for site in network.sites())
        self.image = zoo.images(network, 1)
        self.making: list[dict[str, Any]] = []

    def peers(self) -> list[Entrant]:
        """Each runtime with the quantization that it runs fastest."""
        with self.ui.step(f"{self.network.name}: int8 files of the peers"):
            source = zoo.float_file(self.network, self.folder)
            files = peers.int8_files(source, zoo.images(self.network), self.folder)
        opened = {"onnxruntime": peers.onnxruntime_run, "openvino": peers.openvino_run}
        return [
            self._fastest(
                [
                    Entrant(
                        runtime=runtime,
                        precision=zoo.WIDE,
                        how=how,
                        run=open_file(path, self.image, self.target.threads),
                        file_bytes=path.stat().st_size,
                    )
                    for how, path in files.items()
                ]
            )
            for runtime, open_file in opened.items()
        ]

    def _fastest(self, entrants: Sequence[Entrant]) -> Entrant:
        timers = {e.how: _timer(e.run, self.target.threads) for e in entrants}
        records = measure_together(timers, HEAT, host_fingerprint(), rounds=1)
        least = {how: min(record.samples_us) for how, record in records.items()}
        for how, us in least.items():
            self.ui.note(f"  {entrants[0].runtime} {how}: {us / 1e3:.3f} ms")
        return min(entrants, key=lambda e: least[e.how])

    def compile(self, precision: str, store: RecordStore | None, *, verify: bool) -> Entrant:
        """Our library; tuned by what `store` holds, after timing what it lacks."""
        label = f"{self.network.name} {precision}"
        with self.ui.step(f"{label}: export"):
            source = zoo.qonnx_file(self.network, precision, self.folder)
        tuning = self._tune(label, source, store) if store else {}
        measured = ours.tuned(self.target, store) if store else None
        how = "tuned" if store else "untuned"
        library = source.with_name(f"{source.name.partition('.')[0]}-{how}.so")
        with self.ui.step(f"{label}: compile, {how}"):
            made = ours.compiled(source, self.target, library, measured)
        flips = None
        if verify:
            with self.ui.step(f"{label}: verify"):
                flips = ours.verified(source, library, self.image)
        self.making.append(_making(precision, how, made, flips, tuning))
        opened = Library(library)
        return Entrant(
            runtime=OURS,
            precision=precision,
            how=how,
            run=opened.bound({opened.inputs[0].name: self.image}),
            file_bytes=made.report.library_bytes,
        )

    def _tune(self, label: str, source: Path, store: RecordStore) -> dict[str, Any]:
        """Tunes twice: the second time everything comes out of the database."""
        program = integerize(normalize(source))
        with self.ui.step(f"{label}: tune"), self.ui.task("candidates", 1) as task:
            first = ours.timed(program, self.target, store, task.track)
        again = ours.timed(program, self.target, store)
        self.ui.note(
            f"  {first.timed} of {first.total} candidates timed in {first.seconds:.1f} s, "
            f"from the database {again.seconds:.2f} s"
        )
        return {"tuning": asdict(first), "from_database_seconds": again.seconds}

    def breakdown(self, precision: str, store: RecordStore | None) -> dict[str, Any]:
        """Where the time of our library goes, kernel by kernel."""
        source = zoo.qonnx_file(self.network, precision, self.folder)
        measured = ours.tuned(self.target, store) if store else None
        with self.ui.step(f"{self.network.name} {precision}: time every kernel"):
            found = steps.time_steps(source, self.target, measured)
        peak = limit.peak_run(self.target)
        record = None
        if peak:
            timers = {PEAK: _timer(peak, self.target.threads)}
            record = measure_together(timers, HEAT, host_fingerprint(), rounds=1)[PEAK]
        return {
            "precision": precision,
            "how": "tuned" if store else "untuned",
            "peak_gmacs": limit.MACS / record.median_us / 1e3 if record else None,
            "total_us": sum(step.median_us for step in found),
            "steps": [step.to_json() for step in found],
        }

    def time(self, entrants: Sequence[Entrant], seconds: float) -> dict[str, Any]:
        """Time all entrants in turns; the network's part of the JSON."""
        threads = self.target.threads
        timers = {str(i): _timer(e.run, threads) for i, e in enumerate(entrants)}
        peak = limit.peak_run(self.target)
        if peak:
            timers[PEAK] = _timer(peak, threads)
        turns = max(LEAST_TURNS, round(seconds * 1e6 / TURN_US))
        protocol = Protocol(warmup=2, samples=turns, inner=1, threads=threads)
        with self.ui.step(f"{self.network.name}: {turns} turns of {len(timers)} programs"):
            records = measure_together(
                timers, protocol, host_fingerprint(), rounds=1, least_us=TURN_US
            )
        rows = [
            Row(
                runtime=e.runtime,
                precision=e.precision,
                how=e.how,
                latency=records[str(i)],
                file_bytes=e.file_bytes,
            )
            for i, e in enumerate(entrants)
        ]
        base = better_peer(rows)
        bound = limit_us(self.macs, limit.MACS, records[PEAK]) if peak else None
        return {
            "macs": self.macs,
            "peak_gmacs": limit.MACS / records[PEAK].median_us / 1e3 if peak else None,
            "limit_us": bound,
            "rows": [to_json(row, base, bound) for row in rows],
            "making": self.making,
        }


def _timer(run: peers.Run, threads: int) -> Timer:
    """`call_timer`, each turn behind a run that is not counted."""
    timer = call_timer(run, threads=threads)

    def warmed(inner: int, samples: int) -> Sequence[float]:
        with pinned(threads):
            run()
        return timer(inner, samples)

    return warmed


def _making(
    precision: str, how: str, made: Compiled, flips: int | None, tuning: dict[str, Any]
) -> dict[str, Any]:
    """How one library came about."""
    return {
        "precision": precision,
        "how": how,
        "compile_seconds": sum(made.report.seconds.values()),
        "passes": dict(made.report.seconds),
        "flips": flips,
        "library_bytes": made.report.library_bytes,
        "constant_bytes": made.report.constant_bytes,
        "kernels": {step.name: step.kernel for step in made.report.steps},
        "layers": {
            step.name: {"precision": step.precision, "constant_bytes": step.constant_bytes}
            for step in made.report.steps
            if step.precision
        },
        **tuning,
    }
