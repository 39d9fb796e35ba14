"""What a bundle says of its making, and what earlier measurements say to the compiler."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from mpqdeploy.core import Geometry, Precision
from mpqdeploy.export.manifest import Requirements
from mpqdeploy.targets.candidates import ranking
from mpqdeploy.targets.fingerprint import host_fingerprint, short_hash
from mpqdeploy.targets.kernels.base import Schedule
from mpqdeploy.targets.passes.select import Measured
from mpqdeploy.targets.records import RecordStore
from mpqdeploy.targets.target import Target

PACKAGES = ("mpqdeploy", "apache-tvm", "brevitas", "numpy", "onnx", "onnxruntime", "qonnx", "torch")


def requirements(target: Target) -> Requirements:
    """What a machine must have to run code compiled for `target`."""
    return Requirements(
        target=target.name,
        processor=target.processor,
        features=target.required,
        threads=target.threads,
    )


def versions() -> dict[str, str]:
    """Versions of the packages that can have a hand in a bundle, as far as they are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def measurements(target: Target, store: RecordStore) -> Measured:
    """Looks up the kernels of a layer among this machine's records, the fastest first."""
    machine = short_hash(host_fingerprint())

    def lookup(geometry: Geometry, precision: Precision) -> Sequence[tuple[str, Schedule]]:
        return ranking(store, geometry, precision, target, machine=machine)

    return lookup
