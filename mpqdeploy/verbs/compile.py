"""`mpqdeploy compile`: any QONNX file to a bundle."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from mpqdeploy.core import ModelError, Policy, Precision
from mpqdeploy.core.files import sha256
from mpqdeploy.export.bundle import check_replaceable, write_bundle
from mpqdeploy.export.manifest import Manifest, TensorInfo
from mpqdeploy.export.standard import to_standard_onnx
from mpqdeploy.provenance import measurements, requirements, versions
from mpqdeploy.targets.compile import Compiled, CompileReport, compile_qonnx
from mpqdeploy.targets.program import Port, Program
from mpqdeploy.targets.records import RecordStore
from mpqdeploy.targets.target import Target, load_target
from mpqdeploy.targets.tune import tune
from mpqdeploy.ui import Ui

_LAYOUTS = {4: "NCHW", 2: "NC"}


def compile_model(
    model: Path,
    target: str,
    out: Path,
    ui: Ui,
    *,
    force: bool = False,
    batch: int = 1,
    threads: int = 1,
    tuning: bool = False,
    store: str | None = None,
) -> None:
    """Compile `model` for a target by name, and write the bundle `out` whole or not at all.

    `batch` is the size of a batch that the file leaves open, `threads` is how many run it. Layers
    that were measured on this machine, in the record store at the URL `store`, take their fastest
    kernel; with `tuning` every layer is measured first. Raises `ModelError` naming the file and the
    node, `TargetError`, `StoreError`, and `BundleError` where `out` is a folder of something else,
    unless `force`.
    """
    check_replaceable(out, force=force)
    machine = load_target(target, threads)
    records = RecordStore(store)
    with tempfile.TemporaryDirectory(prefix="mpqdeploy-") as name:
        scratch = Path(name)
        with ui.step(f"compiling {model.name} for {target}"):
            compiled = compile_qonnx(
                model,
                machine,
                scratch / "model.so",
                measured=measurements(machine, records),
                batch=batch,
                before_select=_tuner(machine, records, ui) if tuning else None,
            )
            standard = _standard(model, scratch / "model.onnx", ui)
        report = compiled.report
        manifest = Manifest(
            name=model.name.removesuffix(".onnx").removesuffix(".qonnx"),
            inputs=tuple(tensor_info(port) for port in compiled.program.inputs),
            outputs=tuple(tensor_info(port) for port in compiled.program.outputs),
            requirements=requirements(machine),
            versions=versions(),
            costs={"bytes": report.weight_bits / 8},
            provenance={"source": model.name, "sha256": sha256(model)},
            compilation=report.to_json(),
        )
        shipped = write_bundle(
            out,
            manifest,
            qonnx=model,
            standard=standard,
            library=compiled.library,
            policy=_policy(compiled),
            force=force,
        )
    ui.result({"bundle": str(out), "files": dict(shipped.files), **report.to_json()})
    _show(report, out, ui)


def _tuner(target: Target, store: RecordStore, ui: Ui) -> Callable[[Program], None]:
    def run(program: Program) -> None:
        with ui.task("timing kernels", 1) as task:
            found = tune(program, target, store, progress=task.track)
        ui.note(f"  {found.timed} of {found.candidates} candidates timed, the others known")

    return run


def _standard(model: Path, path: Path, ui: Ui) -> Path | None:
    """The standard ONNX file, or None with a warning: the library does not depend on it."""
    try:
        to_standard_onnx(model, path)
    except ModelError as error:
        ui.warn(f"the bundle has no {path.name}: {error.message}")
        return None
    return path


def tensor_info(port: Port) -> TensorInfo:
    layout = _LAYOUTS.get(len(port.shape), "N" + "*" * (len(port.shape) - 1))
    return TensorInfo(name=port.name, shape=port.shape, layout=layout)


def _policy(compiled: Compiled) -> Policy:
    steps = compiled.report.steps
    return Policy(precisions={s.name: Precision.parse(s.precision) for s in steps if s.precision})


def _show(report: CompileReport, out: Path, ui: Ui) -> None:
    rows = [
        [step.name, step.precision or "-", step.kernel, f"{step.weights:,}"]
        for step in report.steps
    ]
    ui.table("Kernels", ["layer", "precision", "kernel", "weights"], rows)
    for note in (note for step in report.steps for note in step.fallback):
        ui.say(f"not on integers: {note}")
    ui.say(
        f"weights {report.weight_bits / 8:,.0f} B at their own width, in the library"
        f" {report.constant_bytes:,} B; library {report.library_bytes:,} B"
    )
    ui.say(f"wrote {out}")
