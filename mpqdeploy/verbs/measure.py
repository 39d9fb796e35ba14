"""`mpqdeploy measure`: time a bundle on this machine."""

from __future__ import annotations

from pathlib import Path

from mpqdeploy.core import ConfigError, Protocol
from mpqdeploy.export.bundle import LIBRARY
from mpqdeploy.loading import load
from mpqdeploy.targets.fingerprint import host_fingerprint
from mpqdeploy.targets.library import Library
from mpqdeploy.targets.measure import call_timer, measure, quiet
from mpqdeploy.ui import Ui


def measure_bundle(bundle: Path, samples: int, threads: int | None, ui: Ui) -> None:
    """Latency of one run with its 95% interval, on the threads that the bundle was compiled for.

    Raises `BundleError`, `TargetError`, and `ConfigError` where `threads` is another number.
    """
    shipped = load(bundle)
    library = Library(bundle / LIBRARY)
    if threads not in (None, library.threads):
        raise ConfigError(
            f"{bundle} was compiled for {library.threads} thread(s), not {threads}.",
            hint=f"Compile it for them: mpqdeploy compile --threads {threads}.",
        )
    threads = library.threads
    protocol = Protocol(samples=samples, threads=threads, batch=shipped.manifest.inputs[0].shape[0])
    timer = call_timer(library.bound(library.random_inputs()), threads=threads)
    with ui.step(f"measuring {bundle}"):
        record = measure(timer, protocol, host_fingerprint())
    ui.result(record.to_json())
    low, high = record.interval_us
    ui.say(
        f"{record.median_us:.1f} us (95% interval of the median {low:.1f} to {high:.1f}, "
        f"p90 {record.p90_us:.1f}; batch {record.protocol.batch}, {threads} thread(s), "
        f"{record.protocol.samples} samples of {record.protocol.inner} runs)"
    )
    if not quiet(record):
        ui.warn("the machine was busy: the interval is wider than a tenth of the median")
