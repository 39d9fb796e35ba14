"""The manifest of a QONNX file: its inputs and outputs, and the versions that made it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import onnx

from mpqdeploy.core import ModelError, Preprocessing
from mpqdeploy.export.executors import load_model
from mpqdeploy.export.manifest import Manifest, Requirements, TensorInfo

_LIBRARIES = (
    "mpqdeploy",
    "apache-tvm",
    "numpy",
    "onnx",
    "qonnx",
    "onnxruntime",
    "brevitas",
    "torch",
)


def describe(
    qonnx: Path,
    *,
    name: str,
    requirements: Requirements,
    preprocessing: Preprocessing | None = None,
    classes: tuple[str, ...] = (),
    **known: Any,
) -> Manifest:
    """A manifest for the network in `qonnx`; `known` are further fields of `Manifest`.

    `preprocessing` belongs to the first input, `classes` name the first output's channels. Raises
    `ModelError` for an unreadable file, a shape that is not fixed, or another number of classes.
    """
    graph = load_model(qonnx).graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [_tensor(value) for value in graph.input if value.name not in constants]
    outputs = [_tensor(value) for value in graph.output]
    inputs[0] = TensorInfo(**{**vars(inputs[0]), "preprocessing": preprocessing})
    outputs[0] = TensorInfo(**{**vars(outputs[0]), "classes": tuple(classes)})
    if classes and outputs[0].shape[1] != len(classes):
        raise ModelError(
            f"{qonnx} has {outputs[0].shape[1]} outputs, the data set {len(classes)} classes.",
            hint="Export the network that was trained on this data set.",
        )
    return Manifest(
        name=name,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        requirements=requirements,
        versions=library_versions(),
        **known,
    )


def library_versions() -> Mapping[str, str]:
    """Versions of the libraries that take part, of those that are installed."""
    found = {}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


def _tensor(value: onnx.ValueInfoProto) -> TensorInfo:
    dims = value.type.tensor_type.shape.dim
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else 0 for dim in dims)
    if len(shape) not in (2, 4) or 0 in shape:
        raise ModelError(
            f"tensor {value.name!r} has the shape {list(shape)}, which is no fixed [N, C, H, W] "
            "or [N, C].",
            hint="Export the model with a fixed batch size.",
        )
    return TensorInfo(name=value.name, shape=shape, layout="NCHW" if len(shape) == 4 else "NC")
