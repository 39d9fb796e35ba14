"""Run a quantized network layer by layer in qonnx's executor, torch and onnxruntime.

qonnx's executor runs freely and gives the reference: the input of every activation quantizer and
the codes that came out. Each other executor then runs *on the reference's codes*: at every
quantizer what it computed is recorded, and the reference's value is passed on in its place. So
every layer sees inputs identical to the reference's, and a flip stays where it arose.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from mpqdeploy.core import ModelError
from mpqdeploy.core.agreement import LayerAgreement, compare_codes, compare_floats
from mpqdeploy.export.naming import run_name
from mpqdeploy.export.quantizer import Quantizer, initializers, is_quantizer, read_quantizer

Floats = NDArray[np.float32]
LayerExecutor = Callable[["Reference"], Mapping[str, Floats]]
"""From the reference to the values that this executor computed, by tensor name."""


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantizedTensor:
    """An activation behind its quantizer: `before` is what was rounded, `values` what came out."""

    quantizer: Quantizer
    before: Floats
    values: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """One free run of qonnx's executor on `images` `[N, C, H, W]`.

    `tensors` are the quantized activations by tensor name, in execution order; `outputs` the
    model's outputs.
    """

    images: Floats
    tensors: Mapping[str, QuantizedTensor]
    outputs: Mapping[str, Floats]

    def compare(self, values: Mapping[str, Floats]) -> tuple[LayerAgreement, ...]:
        """Agreement of every tensor in `values`; raises `KeyError` for a name unknown here."""
        return tuple(self._compare(name, found) for name, found in values.items())

    def _compare(self, name: str, found: Floats) -> LayerAgreement:
        if name in self.outputs:
            return compare_floats(name, self.outputs[name], found)
        tensor = self.tensors[name]
        quantizer = tensor.quantizer
        return compare_codes(
            name,
            quantizer.codes_of(tensor.values),
            quantizer.codes_of(found),
            tensor.before,
            bipolar=quantizer.bipolar,
            rounding=quantizer.rounding,
        )


def load_model(model: Path | onnx.ModelProto) -> onnx.ModelProto:
    """Read an ONNX file. Raises `ModelError` naming one that is missing or cut short."""
    if isinstance(model, onnx.ModelProto):
        return model
    try:
        loaded = onnx.load(model)
    except FileNotFoundError:
        raise ModelError(
            f"{model} does not exist.", hint="Give the path of an ONNX file."
        ) from None
    except (DecodeError, OSError, ValueError) as error:
        raise ModelError(
            f"{model} is not a readable ONNX file ({type(error).__name__}).",
            hint="It may be cut short; export or download it again.",
        ) from error
    if not loaded.graph.node:
        raise ModelError(f"{model} holds no graph.", hint="Export or download it again.")
    return loaded


def activation_quantizers(model: onnx.ModelProto) -> dict[str, Quantizer]:
    """Quantizers of computed tensors (not of constants) by their output's name."""
    constants = initializers(model.graph)
    return {
        node.output[0]: read_quantizer(node, constants)
        for node in model.graph.node
        if is_quantizer(node) and node.input[0] not in constants
    }


def torch_layers(net: Any, reference: Reference) -> dict[str, Floats]:
    """Run a Brevitas network, whose QONNX tensors are named after its modules, on the reference.

    Raises `ModelError` where a quantizer of the file is no module of the network.
    """
    import torch

    found: dict[str, Floats] = {}
    handles = [
        module.register_forward_hook(_recorder(name, reference, found))
        for name, module in _quantizer_modules(net, reference).items()
    ]
    training = net.training
    try:
        with torch.no_grad():
            outputs = net.eval()(torch.from_numpy(reference.images))
    finally:
        net.train(training)
        for handle in handles:
            handle.remove()
    for name, output in zip(reference.outputs, as_outputs(outputs), strict=True):
        found[name] = output.numpy()
    return found


def as_outputs(outputs: Any) -> tuple[Any, ...]:
    """A network's outputs as plain tensors, also where there is only one."""
    several = isinstance(outputs, tuple) and not hasattr(outputs, "value")
    return tuple(_plain(output) for output in outputs) if several else (_plain(outputs),)


def _quantizer_modules(net: Any, reference: Reference) -> dict[str, Any]:
    """The modules behind the file's quantizers, by name; several may be runs of one."""
    modules = dict(net.named_modules())
    chosen = {}
    for name in reference.tensors:
        layer = name if name in modules else re.sub(r"_\d+$", "", name)
        if layer not in modules:
            raise ModelError(
                f"quantizer {name!r} of the file is no module of the network.",
                hint="Compare with the network that the file was exported from.",
            )
        chosen[layer] = modules[layer]
    return chosen


def _recorder(layer: str, reference: Reference, found: dict[str, Floats]) -> Any:
    """A hook that records every run of a quantizer, and passes the reference's values on.

    A run that the file has not is another quantizer's equal: the exporter merged the two.
    """
    import torch

    runs = count(1)

    def hook(_module: Any, _inputs: Any, output: Any) -> Any:
        name = run_name(layer, next(runs))
        if name not in reference.tensors:
            return output
        found[name] = _plain(output).numpy()
        forced = torch.from_numpy(reference.tensors[name].values)
        return output.set(value=forced) if hasattr(output, "set") else (forced, *output[1:])

    return hook


def _plain(output: Any) -> Any:
    """The float tensor inside a Brevitas QuantTensor or a proxy's tuple."""
    if isinstance(output, tuple) and not hasattr(output, "value"):
        output = output[0]
    return getattr(output, "value", output).detach()


def onnxruntime_layers(model: Path | onnx.ModelProto, reference: Reference) -> dict[str, Floats]:
    """Run a standard ONNX file, whose tensor names are the QONNX file's, on the reference."""
    cut, given = _cut(load_model(model), tuple(reference.tensors))
    session = onnxruntime_session(cut)
    feeds = {given[name]: tensor.values for name, tensor in reference.tensors.items()}
    names = [*reference.tensors, *reference.outputs]
    image = next(iter(value.name for value in cut.graph.input))
    batches: list[list[Floats]] = []
    size = cut.graph.input[0].type.tensor_type.shape.dim[0].dim_value or len(reference.images)
    for start in range(0, len(reference.images), size):
        part = slice(start, start + size)
        feed = {image: reference.images[part]} | {key: array[part] for key, array in feeds.items()}
        batches.append(session.run(names, feed))
    return {
        name: np.concatenate([batch[index] for batch in batches])
        for index, name in enumerate(names)
    }


def onnxruntime_logits(model: Path | onnx.ModelProto, images: Floats, threads: int = 0) -> Floats:
    """First output of a standard ONNX file, shape `[N, classes]`, in batches of its own size."""
    proto = load_model(model)
    session = onnxruntime_session(proto, threads)
    entry = session.get_inputs()[0]
    size = entry.shape[0] if isinstance(entry.shape[0], int) else len(images)
    parts = [
        session.run(None, {entry.name: images[start : start + size]})[0]
        for start in range(0, len(images), size)
    ]
    return np.concatenate(parts)


def onnxruntime_session(model: onnx.ModelProto, threads: int = 0) -> Any:
    """A stock session on the CPU; `threads` 0 leaves the number to onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _cut(
    model: onnx.ModelProto, tensors: tuple[str, ...]
) -> tuple[onnx.ModelProto, dict[str, str]]:
    """A copy in which every tensor is an output as computed, and read from an input of its own."""
    copy = onnx.ModelProto()
    copy.CopyFrom(onnx.shape_inference.infer_shapes(model))
    graph = copy.graph
    given = {name: f"{name}.given" for name in tensors}
    for node in graph.node:
        node.input[:] = [given.get(name, name) for name in node.input]
    shapes = {value.name: value for value in graph.value_info}
    graph.input.extend(_renamed(shapes[name], given[name]) for name in tensors)
    graph.output.extend(shapes[name] for name in tensors)
    return copy, given


def _renamed(value: onnx.ValueInfoProto, name: str) -> onnx.ValueInfoProto:
    copy = onnx.ValueInfoProto()
    copy.CopyFrom(value)
    copy.name = name
    return copy
