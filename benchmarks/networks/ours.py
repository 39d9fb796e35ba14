"""Our side of the comparison: tuned, compiled, verified, as a call without arguments."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.core import ModelError
from mpqdeploy.core.files import read_json, sha256, write_json
from mpqdeploy.provenance import measurements
from mpqdeploy.targets.compile import Compiled, compile_qonnx
from mpqdeploy.targets.library import Library
from mpqdeploy.targets.passes.select import Measured
from mpqdeploy.targets.profile import Progress
from mpqdeploy.targets.program import Program
from mpqdeploy.targets.records import RecordStore
from mpqdeploy.targets.target import Target
from mpqdeploy.targets.tune import tune
from mpqdeploy.targets.verify import verify_library

Image = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """Candidates that were timed, out of how many, and the seconds it took."""

    timed: int
    total: int
    seconds: float


def timed(
    program: Program, target: Target, store: RecordStore, progress: Progress | None = None
) -> Tuning:
    """Tune the program's layers, and say how long it took."""
    started = time.perf_counter()
    found = tune(program, target, store, progress=progress)
    seconds = time.perf_counter() - started
    return Tuning(timed=found.timed, total=found.candidates, seconds=seconds)


def tuned(target: Target, store: RecordStore) -> Measured:
    """What `compile_qonnx` looks measured kernels up with."""
    return measurements(target, store)


def compiled(source: Path, target: Target, library: Path, measured: Measured | None) -> Compiled:
    """Compile `source` anew: a cached library would be an older compiler's."""
    return compile_qonnx(source, target, library, measured=measured)


def verified(source: Path, library: Path, image: Image) -> int:
    """Codes that differ from qonnx's executor by rounding at a threshold, layer by layer.

    The result is kept beside the library, by its digest. Raises `ModelError` naming the first
    layer that differs by more: such a program's time means nothing.
    """
    known, digest = library.with_suffix(".verified.json"), sha256(library)
    if known.exists() and read_json(known).get("sha256") == digest:
        return int(read_json(known)["flips"])
    opened = Library(library)
    layers = verify_library(source, opened, [{opened.inputs[0].name: image}])
    for layer in layers:
        if not layer.holds:
            raise ModelError(
                f"{library} is wrong at {layer.name!r}: {layer.errors} of {layer.elements} values "
                "differ from qonnx's executor by more than rounding.",
                hint=f"Compare with {source} by `mpqdeploy verify`.",
            )
    flips = sum(layer.flips for layer in layers)
    write_json(known, {"sha256": digest, "flips": flips, "layers": len(layers)})
    return flips
