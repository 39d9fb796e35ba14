"""`verify_library`: the compiled library against qonnx's executor, layer by layer.

The library runs freely and every buffer between its kernels is read back. qonnx's executor then
walks the same graph on the *library's* codes: whatever it computes at a quantizer is compared with
what the library computed there, and the library's value is passed on. So both see identical inputs
at every layer, and a flip is counted where it arose and nowhere else; where the library stores
nothing, in what its readers have (`hidden`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from mpqdeploy.core import ModelError
from mpqdeploy.core.agreement import LayerAgreement, Rounding, compare_codes, compare_floats
from mpqdeploy.targets.codec import decode
from mpqdeploy.targets.hidden import HiddenCodes
from mpqdeploy.targets.library import Library
from mpqdeploy.targets.passes.dialects import TRUNC_1_INPUTS
from mpqdeploy.targets.passes.integerize import integerize
from mpqdeploy.targets.passes.normalize import normalize
from mpqdeploy.targets.program import Affine, Expr, Program, Quant, Tensor, walk
from mpqdeploy.targets.reference import to_logical, to_port
from mpqdeploy.targets.views import Reindex

Floats = NDArray[np.float32]
QUANTIZERS = ("Quant", "IntQuant", "BipolarQuant", "Trunc", "MultiThreshold")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Layer:
    """A tensor that both executors have: what ours is, the codes that it holds or stands for, and
    how qonnx's node rounds. `stored`: the name that it has in the library, and `view`, where that
    is another, how the elements lie there."""

    tensor: Tensor
    codes: Tensor | None
    rounding: Rounding
    stored: str
    view: Reindex | None = None

    def real(self, traced: Mapping[str, Floats]) -> Floats:
        """Its values, as the file has them."""
        array = traced[self.stored]
        return _real(self.tensor, array if self.view is None else self.view.undone(array))


def verify_library(
    source: Path, library: Library, samples: Sequence[Mapping[str, NDArray[Any]]]
) -> tuple[LayerAgreement, ...]:
    """Agreement of every quantized tensor and every output, over all `samples` (by port name).

    `source` is the QONNX file that the library was compiled from. Raises `ModelError` where it is
    another network's.
    """
    model = normalize(source, batch=library.inputs[0].shape[0] if library.inputs else 1)
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
    layers: dict[str, _Layer] = {}
    shown: dict[str, _Layer] = {}
    for step in program.steps:
        for output in step.outputs:
            last = [part for part in walk(output.value) if isinstance(part, Quant)][-1:]
            rounding: Rounding = last[0].rounding if last else "ROUND"
            tensor = program.tensors[output.tensor]
            codes = tensor if tensor.grid else _behind_floats(tensor, output.value)
            layer = _Layer(tensor=tensor, codes=codes, rounding=rounding, stored=tensor.name)
            layers[tensor.name] = layer
            if tensor.shows is not None:
                name, view = tensor.shows
                shown.setdefault(name, _shown(layer, view))
    return {**shown, **layers}


def _shown(layer: _Layer, view: Reindex) -> _Layer:
    """What `layer` shows of another tensor through `view`."""
    shape = (layer.tensor.shape[0], *view.source)
    codes = None if layer.codes is None else replace(layer.codes, shape=shape)
    return replace(layer, tensor=replace(layer.tensor, shape=shape), codes=codes, view=view)


def _behind_floats(tensor: Tensor, value: Expr) -> Tensor | None:
    """The codes that a tensor of floats stands for: an output, or codes too wide to be stored."""
    one = np.ones(1, np.float32)
    if isinstance(value, Affine) and isinstance(value.x, Quant) and np.all(value.mul > 0):
        zero_point = np.asarray(-value.add / value.mul, np.float32)
        return replace(tensor, grid=value.x.grid, scale=value.mul, zero_point=zero_point)
    return replace(tensor, grid=value.grid, scale=one) if isinstance(value, Quant) else None


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

    def execute(node: NodeProto, values: dict[str, NDArray[Any]]) -> None:
        execute_node(node, values, model.graph, opsets[node.domain])

    hidden = HiddenCodes(execute)
    agreements = []
    for node in model.graph.node:
        execute(node, context)
        name = node.output[0]
        if name not in layers or layers[name].stored not in traced:
            if node.input and model.get_initializer(node.input[0]) is None:
                hidden.note(node, context)
            continue
        layer = layers[name]
        ours = layer.real(traced)
        hidden.explain(node, context, to_port(ours, context[name].shape))
        theirs = to_logical(context[name], layer.tensor.shape)
        if node.op_type in QUANTIZERS and layer.codes is not None:
            agreements.append(
                _codes_agree(node, context, layer.codes, theirs, ours, layer.rounding)
            )
        elif name in outputs or layer.tensor.grid is None:
            agreements.append(compare_floats(name, theirs, ours))
        elif layer.codes is not None:  # a maximum of codes, for instance: nothing is rounded
            wanted, codes = _codes(layer.codes, theirs), _codes(layer.codes, ours)
            agreements.append(compare_codes(name, wanted, codes, wanted))
        context[name] = np.ascontiguousarray(to_port(ours, context[name].shape))
    return [*agreements, *hidden.agreements()]


def _codes_agree(
    node: NodeProto,
    context: Mapping[str, NDArray[Any]],
    tensor: Tensor,
    theirs: Floats,
    ours: Floats,
    rounding: Rounding,
) -> LayerAgreement:
    """The codes of a quantizer, from its real values."""
    name, wanted, codes = node.output[0], _codes(tensor, theirs), _codes(tensor, ours)
    x = to_logical(np.asarray(context[node.input[0]], np.float32), tensor.shape)
    if node.op_type == "MultiThreshold":
        table = np.asarray(context[node.input[1]], np.float64)
        before = _around_thresholds(x, table, np.minimum(wanted, codes))
        return compare_codes(name, wanted, codes, before, rounding="FLOOR")
    before = np.asarray(x / tensor.scale + tensor.zero_point, np.float32)
    if node.op_type == "Trunc":
        scale, zero_point = (np.asarray(context[parameter]) for parameter in node.input[1:3])
        divisor = _divisor(node, context, tensor, float(scale))
        before = np.asarray(np.rint(x / scale + zero_point) / divisor, np.float32)
    bipolar = bool(tensor.grid and tensor.grid.bipolar)
    return compare_codes(name, wanted, codes, before, bipolar=bipolar, rounding=rounding)


def _divisor(
    node: NodeProto, context: Mapping[str, NDArray[Any]], tensor: Tensor, scale: float
) -> float:
    """What a Trunc divides its input's codes by."""
    if len(node.input) > TRUNC_1_INPUTS:
        return float(2.0 ** np.rint(np.log2(tensor.scale[0] / scale)))
    bits, output = (float(context[parameter]) for parameter in node.input[3:5])
    return float(2.0 ** (bits - output))


def _around_thresholds(x: Floats, table: NDArray[np.float64], lower: Floats) -> Floats:
    """Of every element its lower code and 1, and how far its value is from the nearest threshold,
    in steps of which the tensor's largest value is as many as it has codes."""
    gaps = x[..., None].astype(np.float64) - table
    nearest = np.take_along_axis(gaps, np.abs(gaps).argmin(axis=-1)[..., None], axis=-1)[..., 0]
    unit = table.shape[1] / max(float(np.abs(x).max(initial=0.0)), 1e-30)
    return np.asarray(lower + 1 + nearest * unit, np.float32)


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
