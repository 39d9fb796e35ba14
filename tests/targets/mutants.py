"""Mutants: small QONNX graphs with one or a few things about them changed, seeded.

Most are no valid networks any more; some are valid but say something else than they did.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.random import Generator
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper

from tests.targets import token_graphs
from tests.targets.graphs import CUSTOM_OPS, DOMAIN, GRAPHS
from tests.targets.wild import WILD, network

ODD_INTS = (-(2**31), -7, -2, -1, 0, 1, 2, 3, 4, 7, 100, 2**31, 2**62)
ODD_FLOATS = (np.nan, np.inf, -np.inf, 0.0, -0.0, -1.0, 0.5, 1e-30, 1e30, 3e38, 2.5)
ODD_TEXTS = ("", "ROUND", "FLOOR", "sideways", "SAME_UPPER", "VALID", "linear", "CRD", "\udcff")
ROUNDINGS = (
    "ROUND", "FLOOR", "CEIL", "DOWN", "UP", "HALF_UP", "HALF_DOWN", "round", "ROUND_TO_ZERO",
)  # fmt: skip
OPERATORS = (
    "Relu", "Sigmoid", "Conv", "Gemm", "MatMul", "Add", "Sub", "Mul", "Div", "MaxPool",
    "AveragePool", "GlobalAveragePool", "Flatten", "Reshape", "Transpose", "Concat", "Pad", "Slice",
    "Softmax", "Quant", "BipolarQuant", "Trunc", "MultiThreshold", "ConvTranspose", "Resize",
    "DepthToSpace", "Clip", "Identity", "ReduceMean", "Erf", "TopK", "Gather", "Where", "Loop",
    "NoSuchOperator", "",
)  # fmt: skip
DOMAINS = (
    "",
    "ai.onnx",
    DOMAIN,
    "onnx.brevitas",
    "finn.custom_op.general",
    "com.example",
    "ai.onnx.ml",
)
DTYPES = (np.float16, np.float64, np.int64, np.int32, np.int8, np.uint8, np.bool_)

Mutation = Callable[[ModelProto, Generator], None]


def seeds() -> list[ModelProto]:
    """`count` networks to start from, every kind of operator among them; built once."""
    makers: list[Callable[[], ModelProto]] = [
        *(lambda make=make: make(1) for make in GRAPHS.values()),  # type: ignore[misc]
        *(lambda build=build: network(build, batch=1) for build in WILD.values()),  # type: ignore[misc]
        *(lambda build=build: token_graphs.model(build) for build in token_graphs.BUILDS),  # type: ignore[misc]
    ]
    return [make() for make in makers]


def mutant(model: ModelProto, rng: Generator) -> ModelProto | bytes:
    """A changed copy, or the bytes of one that was damaged on disk."""
    copy = ModelProto()
    copy.CopyFrom(model)
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        with contextlib.suppress(ValueError, TypeError, IndexError):  # of what is broken already
            MUTATIONS[rng.integers(len(MUTATIONS))](copy, rng)
    if rng.random() < 0.04:
        return _damaged(copy.SerializeToString(), rng)
    return copy


def _damaged(data: bytes, rng: Generator) -> bytes:
    if rng.random() < 0.5:
        return data[: rng.integers(len(data))]
    array = np.frombuffer(data, np.uint8).copy()
    array[rng.integers(len(array), size=rng.integers(1, 8))] = rng.integers(256)
    return array.tobytes()


def _pick(rng: Generator, items: Any) -> Any:
    return items[int(rng.integers(len(items)))]


def _tensors(model: ModelProto) -> list[str]:
    """Names that a node may read: every tensor, and one that is none."""
    names = [tensor.name for tensor in model.graph.initializer]
    names += [name for node in model.graph.node for name in node.output]
    return [*names, "x", "nowhere", ""]


def change_attribute(model: ModelProto, rng: Generator) -> None:
    node = _pick(rng, model.graph.node)
    if not node.attribute:
        return
    part: AttributeProto = _pick(rng, node.attribute)
    if part.type == AttributeProto.INT:
        part.i = _pick(rng, ODD_INTS)
    elif part.type == AttributeProto.FLOAT:
        part.f = _pick(rng, ODD_FLOATS)
    elif part.type == AttributeProto.STRING:
        part.s = _pick(rng, ODD_TEXTS).encode(errors="surrogateescape")
    elif part.type == AttributeProto.INTS and part.ints:
        if rng.random() < 0.7:
            part.ints[int(rng.integers(len(part.ints)))] = _pick(rng, ODD_INTS)
        else:
            part.ints.append(1) if rng.random() < 0.5 else part.ints.pop()


def remove_attribute(model: ModelProto, rng: Generator) -> None:
    node = _pick(rng, model.graph.node)
    if node.attribute:
        node.attribute.remove(_pick(rng, node.attribute))


def retype_attribute(model: ModelProto, rng: Generator) -> None:
    node = _pick(rng, model.graph.node)
    if node.attribute:
        part = _pick(rng, node.attribute)
        value = _pick(rng, (1, 2.5, "text", [1, 2], [0.5], ["a"]))
        name = part.name
        node.attribute.remove(part)
        node.attribute.append(helper.make_attribute(name, value))


def add_attribute(model: ModelProto, rng: Generator) -> None:
    names = ("axis", "auto_pad", "ceil_mode", "group", "training_mode", "transA", "output_shape")
    value = _pick(rng, (1, -1, "SAME_UPPER", [2, 2], 0.5))
    _pick(rng, model.graph.node).attribute.append(helper.make_attribute(_pick(rng, names), value))


def change_operator(model: ModelProto, rng: Generator) -> None:
    node = _pick(rng, model.graph.node)
    node.op_type = _pick(rng, OPERATORS)
    if rng.random() < 0.7:
        node.domain = DOMAIN if node.op_type in CUSTOM_OPS else ""


def change_domain(model: ModelProto, rng: Generator) -> None:
    target = _pick(rng, [*model.graph.node, *model.opset_import])
    target.domain = _pick(rng, DOMAINS)


def change_opset(model: ModelProto, rng: Generator) -> None:
    entry = _pick(rng, model.opset_import)
    entry.version = int(_pick(rng, (0, 1, 2, 6, 9, 10, 12, 13, 18, 21, 25, 27, 99)))
    if rng.random() < 0.1:
        model.opset_import.remove(entry)


def rewire_input(model: ModelProto, rng: Generator) -> None:
    """Maybe to a later output, which closes a cycle."""
    node = _pick(rng, model.graph.node)
    if node.input:
        node.input[int(rng.integers(len(node.input)))] = _pick(rng, _tensors(model))


def drop_input(model: ModelProto, rng: Generator) -> None:
    node = _pick(rng, model.graph.node)
    if node.input:
        node.input.pop(int(rng.integers(len(node.input))))


def add_input(model: ModelProto, rng: Generator) -> None:
    _pick(rng, model.graph.node).input.append(_pick(rng, _tensors(model)))


def swap_inputs(model: ModelProto, rng: Generator) -> None:
    node = _pick(rng, model.graph.node)
    if len(node.input) > 1:
        node.input[0], node.input[1] = node.input[1], node.input[0]


def drop_node(model: ModelProto, rng: Generator) -> None:
    if len(model.graph.node) > 1:
        model.graph.node.remove(_pick(rng, model.graph.node))


def bypass_node(model: ModelProto, rng: Generator) -> None:
    """Its readers read its first input: often still a network."""
    node = _pick(rng, model.graph.node)
    for other in model.graph.node:
        other.input[:] = [node.input[0] if n == node.output[0] else n for n in other.input]


def double_node(model: ModelProto, rng: Generator) -> None:
    model.graph.node.add().CopyFrom(_pick(rng, model.graph.node))


def drop_output(model: ModelProto, rng: Generator) -> None:
    node = _pick(rng, model.graph.node)
    if rng.random() < 0.5:
        node.output.pop()
    else:
        node.output.append("second")


def change_values(model: ModelProto, rng: Generator) -> None:
    """One element, or all of them: NaN, infinite, zero, negative, huge."""
    tensor: TensorProto = _pick(rng, model.graph.initializer)
    array = numpy_helper.to_array(tensor).copy()
    if not array.size:
        return
    value = _pick(rng, ODD_FLOATS if array.dtype.kind == "f" else ODD_INTS)
    flat = array.reshape(-1)
    with np.errstate(all="ignore"):
        if rng.random() < 0.5:
            flat[:] = flat.dtype.type(value) if array.dtype.kind == "f" else value % 2**31
        else:
            at = int(rng.integers(flat.size))
            flat[at] = flat.dtype.type(value) if array.dtype.kind == "f" else value % 2**31
    tensor.CopyFrom(numpy_helper.from_array(flat.reshape(array.shape), tensor.name))


def scale_values(model: ModelProto, rng: Generator) -> None:
    """Still a network, with other numbers."""
    tensor: TensorProto = _pick(rng, model.graph.initializer)
    array = numpy_helper.to_array(tensor)
    if array.dtype == np.float32 and array.size:
        factor = np.float32(_pick(rng, (0.1, 0.5, 1.7, 2.0, 10.0)))
        tensor.CopyFrom(numpy_helper.from_array(np.asarray(array * factor), tensor.name))


def reshape_values(model: ModelProto, rng: Generator) -> None:
    tensor: TensorProto = _pick(rng, model.graph.initializer)
    array = numpy_helper.to_array(tensor)
    kind = rng.integers(5)
    if kind == 0:
        array = array.reshape(-1)
    elif kind == 1:
        array = array[None]
    elif kind == 2:
        array = array[..., :0] if array.ndim else array.reshape(1)[:0]
    elif kind == 3:
        array = np.concatenate([array.reshape(-1), array.reshape(-1)])
    else:
        array = array.T
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))


def retype_values(model: ModelProto, rng: Generator) -> None:
    tensor: TensorProto = _pick(rng, model.graph.initializer)
    with np.errstate(all="ignore"):
        array = numpy_helper.to_array(tensor).astype(_pick(rng, DTYPES))
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def cut_values(model: ModelProto, rng: Generator) -> None:
    """Fewer bytes, or other sizes, than the tensor says."""
    tensor: TensorProto = _pick(rng, model.graph.initializer)
    if rng.random() < 0.5:
        tensor.raw_data = tensor.raw_data[: len(tensor.raw_data) // 2]
    else:
        tensor.dims.append(int(_pick(rng, (0, 2, 3, -1))))


def drop_values(model: ModelProto, rng: Generator) -> None:
    model.graph.initializer.remove(_pick(rng, model.graph.initializer))


def change_width(model: ModelProto, rng: Generator) -> None:
    """The width, zero point or scale of a quantizer."""
    node = _pick(rng, [n for n in model.graph.node if n.op_type in CUSTOM_OPS] or model.graph.node)
    if len(node.input) < 2:
        return
    name = node.input[int(rng.integers(1, len(node.input)))]
    values = (0.0, -1.0, 1.0, 2.0, 3.0, 8.0, 9.0, 16.0, 24.0, 32.0, 33.0, 64.0, 2.5, 0.01, np.nan)
    for tensor in model.graph.initializer:
        if tensor.name == name:
            value = np.float32(_pick(rng, values))
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(value), name))


def requantize(model: ModelProto, rng: Generator) -> None:
    """Another quantizer, all of it valid."""
    found = [node for node in model.graph.node if node.op_type == "Quant" and len(node.input) == 4]
    if not found:
        return
    node = _pick(rng, found)
    for part in node.attribute:
        if part.name in ("signed", "narrow"):
            part.i = int(rng.integers(2))
        elif part.name == "rounding_mode":
            part.s = _pick(rng, ROUNDINGS).encode()
    values = {2: _pick(rng, (0, 0, 1, 2, -1, 0.5)), 3: int(rng.integers(1, 10))}
    for index, value in values.items():
        name = f"{node.name}_{index}"
        array = np.asarray(value, np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
        node.input[index] = name


def change_port(model: ModelProto, rng: Generator) -> None:
    port = _pick(rng, [*model.graph.input, *model.graph.output])
    kind, dims = port.type.tensor_type, port.type.tensor_type.shape.dim
    choice = rng.integers(6)
    if choice == 0 and dims:
        _pick(rng, dims).dim_value = int(_pick(rng, (-1, 0, 1, 2, 5, 17)))
    elif choice == 1 and dims:
        _pick(rng, dims).dim_param = "N"
    elif choice == 2:
        dims.add().dim_value = 2
    elif choice == 3 and dims:
        del dims[-1]
    elif choice == 4:
        kind.elem_type = int(_pick(rng, (0, 2, 7, 8, 10, 11, 99)))
    else:
        port.name = _pick(rng, ("elsewhere", "", *_tensors(model)))


def add_output(model: ModelProto, rng: Generator) -> None:
    name = _pick(rng, _tensors(model))
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))


MUTATIONS: tuple[Mutation, ...] = (
    change_attribute, change_attribute, remove_attribute, retype_attribute, add_attribute,
    change_operator, change_domain, change_opset, rewire_input, rewire_input, drop_input, add_input,
    swap_inputs, drop_node, bypass_node, bypass_node, double_node, drop_output, change_values,
    change_values, scale_values, scale_values, reshape_values, retype_values, cut_values,
    drop_values, change_width, change_width, change_port, add_output,
    requantize, requantize, requantize, requantize,
)  # fmt: skip
