"""`verify_library`: the compiled library against qonnx's executor, layer by layer.

The library runs freely and every buffer between its kernels is read back. qonnx's executor then
walks the same graph on the *library's* codes: whatever it computes at a quantizer is compared with
what the library computed there, and the library's value is passed on. So both see identical inputs
at every layer, and a flip is counted where it arose and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.core import ModelError
from mpqdeploy.core.agreement import LayerAgreement, Rounding, compare_codes, compare_floats
from mpqdeploy.targets.codec import decode
from mpqdeploy.targets.library import Library
from mpqdeploy.targets.passes.integerize import integerize
from mpqdeploy.targets.passes.normalize import normalize
from mpqdeploy.targets.program import Program, Quant, Tensor

Floats = NDArray[np.float32]
QUANTIZERS = ("Quant", "BipolarQuant")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Layer:
    """A tensor that both executors have: what ours is, and how qonnx's node rounds."""

    tensor: Tensor
    rounding: Rounding


def verify_library(
    source: Path, library: Library, samples: Sequence[Mapping[str, NDArray[Any]]]
) -> tuple[LayerAgreement, ...]:
    """Agreement of every quantized tensor and every output, over all `samples` (by port name).

    `source` is the QONNX file that the library was compiled from. Raises `ModelError` where it is
    another network's.
    """
    model = normalize(source)
    program = integerize(model)
    layers = _layers(program)
    found: dict[str, list[LayerAgreement]] = {}
    for sample in samples:
        for agreement in _compare(model, program, layers, library, sample):
            found.setdefault(agreement.name, []).append(agreement)
    if not found:
        raise ModelError(
            f"{source} and the library share no quantized tensor.",
            hint="Verify with the file that the library was compiled from.",
        )
    return tuple(_joined(agreements) for agreements in found.values())


def _layers(program: Program) -> dict[str, _Layer]:
    layers = {}
    for step in program.steps:
        for output in step.outputs:
            rounding = output.value.rounding if isinstance(output.value, Quant) else "ROUND"
            layers[output.tensor] = _Layer(tensor=program.tensors[output.tensor], rounding=rounding)
    return layers


def _traced(
    program: Program, library: Library, sample: Mapping[str, NDArray[Any]]
) -> dict[str, Floats]:
    """Codes (floats for tensors without a grid) `[N, H, W, C]` of every tensor of a free run.

    Raises `ModelError` where two layouts of one tensor hold different codes.
    """
    values: dict[str, Floats] = {}
    for traced in library.trace(sample):
        tensor = program.tensors.get(traced.buffer.tensor)
        if tensor is None:
            raise ModelError(
                f"the library has a tensor {traced.buffer.tensor!r} that the model has not.",
                hint="Verify with the file that the library was compiled from.",
            )
        codes = decode(tensor, traced.buffer.layout, traced.array)
        known = values.setdefault(tensor.name, codes)
        if not np.array_equal(known, codes):
            raise ModelError(f"two layouts of {tensor.name!r} hold different codes.")
    return values


def _compare(
    model: Any,
    program: Program,
    layers: Mapping[str, _Layer],
    library: Library,
    sample: Mapping[str, NDArray[Any]],
) -> list[LayerAgreement]:
    from qonnx.core.onnx_exec import execute_node

    traced = _traced(program, library, sample)
    outputs = {port.tensor: port for port in program.outputs}
    context = model.make_empty_exec_context()
    for port in program.inputs:
        context[port.name] = np.asarray(sample[port.name], np.float32).reshape(port.shape)
    opsets = model.get_opset_imports()
    agreements = []
    for node in model.graph.node:
        execute_node(node, context, model.graph, opsets[node.domain])
        name = node.output[0]
        if name not in traced or name not in layers:
            continue
        layer = layers[name]
        if node.op_type in QUANTIZERS:
            before = _before(layer.tensor, context[node.input[0]])
            agreements.append(
                compare_codes(
                    name,
                    _codes(layer.tensor, _image(context[name])),
                    traced[name].astype(np.float32),
                    before,
                    bipolar=bool(layer.tensor.grid and layer.tensor.grid.bipolar),
                    rounding=layer.rounding,
                )
            )
        elif name in outputs or layer.tensor.grid is None:
            ours = _real(layer.tensor, traced[name])
            agreements.append(compare_floats(name, _image(context[name]), ours))
        context[name] = _plain(_real(layer.tensor, traced[name]), context[name].shape)
    return agreements


def _image(values: NDArray[Any]) -> Floats:
    """A tensor as ONNX has it, `[N, C, H, W]` or `[N, C]`, as `[N, H, W, C]`."""
    array = np.asarray(values, np.float32)
    if array.ndim == 2:
        return array[:, None, None, :]
    return array.transpose(0, 2, 3, 1)


def _plain(image: Floats, shape: tuple[int, ...]) -> Floats:
    return np.ascontiguousarray(image.transpose(0, 3, 1, 2)).reshape(shape)


def _before(tensor: Tensor, x: NDArray[Any]) -> Floats:
    return np.asarray(_image(x) / tensor.scale + tensor.zero_point, np.float32)


def _codes(tensor: Tensor, real: Floats) -> Floats:
    return np.asarray(np.rint(real / tensor.scale + tensor.zero_point), np.float32)


def _real(tensor: Tensor, codes: NDArray[Any]) -> Floats:
    if tensor.grid is None:
        return codes.astype(np.float32)
    return (tensor.scale * (codes.astype(np.float32) - tensor.zero_point)).astype(np.float32)


def _joined(agreements: Sequence[LayerAgreement]) -> LayerAgreement:
    """One layer over several samples."""
    return LayerAgreement(
        name=agreements[0].name,
        elements=sum(a.elements for a in agreements),
        flips=sum(a.flips for a in agreements),
        errors=sum(a.errors for a in agreements),
        worst_ulps=max(a.worst_ulps for a in agreements),
    )
