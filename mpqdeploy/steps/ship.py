"""Ship: the bundle of the searched network."""

from __future__ import annotations

from pathlib import Path

from mpqdeploy.core.agreement import Certificate
from mpqdeploy.export.bundle import write_bundle
from mpqdeploy.export.manifest import Manifest, TensorInfo
from mpqdeploy.provenance import requirements, versions
from mpqdeploy.results import Row
from mpqdeploy.run_folder import Done
from mpqdeploy.steps.context import Context
from mpqdeploy.steps.deploy import LIBRARY, QONNX, STANDARD, policy_of
from mpqdeploy.targets.library import Library

BUNDLE = "bundle"


def ship(
    context: Context, deployed: Done, row: Row, float_accuracy: float, name: str = BUNDLE
) -> Path:
    """Write `run_dir/bundle`, or whatever `name` says, and return it; a bundle that was there is
    replaced as a whole."""
    folder = context.folder.path / name
    library = Library(deployed.folder / LIBRARY)
    decoding = context.task.decoding(context.dataset.classes)
    metric = context.task.metric.replace("-", "")
    manifest = Manifest(
        name=f"{context.spec.name}-{context.dataset.name}",
        inputs=tuple(
            TensorInfo(
                name=port.name,
                shape=port.shape,
                layout="NCHW",
                preprocessing=context.dataset.preprocessing,
            )
            for port in library.inputs
        ),
        outputs=tuple(
            TensorInfo(
                name=port.name,
                shape=port.shape,
                layout="NCHW" if decoding else "NC",
                classes=() if decoding else context.dataset.classes,
            )
            for port in library.outputs
        ),
        requirements=requirements(context.target),
        versions=versions(),
        decoding=decoding,
        accuracy={metric: row.accuracy, f"float32_{metric}": float_accuracy},
        latency=row.latency,
        certificate=Certificate.from_json(deployed.result["certificate"]),
        costs={"bytes": row.bytes, "bops": row.bops},
        provenance={"config": context.config.snapshot(), "seed": context.config.seed},
        compilation=deployed.result["compile"],
    )
    write_bundle(
        folder,
        manifest,
        qonnx=deployed.folder / QONNX,
        standard=deployed.folder / STANDARD,
        library=deployed.folder / LIBRARY,
        policy=policy_of(deployed),
    )
    return folder
