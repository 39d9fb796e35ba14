"""normalize: the same function as the file, checked; errors that name file and node."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.infer_shapes import InferShapes

from mpqdeploy.core import ModelError
from mpqdeploy.targets.passes.normalize import normalize
from tests.targets import graphs
from tests.targets.graphs import GRAPHS, GraphBuilder


@pytest.mark.parametrize("name", GRAPHS)
def test_same_function_as_the_original(name: str) -> None:
    model = GRAPHS[name](0)
    original = ModelWrapper(model, make_deepcopy=True).transform(InferShapes())
    normal = normalize(model)
    x = np.random.default_rng(0).normal(size=normal.get_tensor_shape("x")).astype(np.float32)
    expected = execute_onnx(original, {"x": x})["y"]
    np.testing.assert_array_equal(execute_onnx(normal, {"x": x})["y"], expected)


def test_source_is_not_changed(tmp_path: Path) -> None:
    model = graphs.residual()
    before = model.SerializeToString()
    path = tmp_path / "model.onnx"
    path.write_bytes(before)
    normalize(model)
    normalize(path)
    assert model.SerializeToString() == before == path.read_bytes()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("domain", ["onnx.brevitas", "finn.custom_op.general", "finn"])
def test_old_domains_are_renamed(domain: str) -> None:
    model = graphs.conv_chain()
    for node in model.graph.node:
        node.domain = domain if node.domain else ""
    del model.opset_import[1:]
    model.opset_import.insert(0, helper.make_opsetid(domain, 1))
    domains = {node.op_type: node.domain for node in normalize(model).graph.node}
    assert domains["Quant"] == graphs.DOMAIN


def test_weight_quantizers_are_kept_and_the_rest_is_folded() -> None:
    builder = GraphBuilder(0, (1, 3, 4, 4))
    x = builder.quant("x", 8)
    shape = builder.node("Shape", [x])
    batch = builder.node("Gather", [shape, builder.constant([0], np.int64)], axis=0)
    target = builder.node("Concat", [batch, builder.constant([-1], np.int64)], axis=0)
    flat = builder.node("Reshape", [x, target])
    normal = normalize(builder.model(builder.linear(flat, 48, 5)))
    operators = sorted(node.op_type for node in normal.graph.node)
    assert operators == ["Gemm", "Quant", "Quant", "Reshape"]


def test_open_batch_becomes_one() -> None:
    model = graphs.conv_chain(batch=4)
    for port in (*model.graph.input, *model.graph.output):
        port.type.tensor_type.shape.dim[0].dim_param = "N"
    assert normalize(model).get_tensor_shape("y")[0] == 1


def test_dead_nodes_go_and_names_become_unique() -> None:
    builder = GraphBuilder(0, (1, 3, 4, 4))
    x = builder.quant("x", 8)
    builder.relu(x)
    model = builder.model(builder.conv(x, 4))
    for node in model.graph.node:
        node.name = "same"
    names = [node.name for node in normalize(model).graph.node]
    assert len(names) == len(set(names)) == 3


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.onnx: no such file"):
        normalize(tmp_path / "gone.onnx")


@pytest.mark.parametrize("content", [b"", b"not a model", bytes(range(256))])
def test_other_formats(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.onnx"):
        normalize(path)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99])
def test_file_cut_short(tmp_path: Path, part: float) -> None:
    content = graphs.conv_chain().SerializeToString()
    path = tmp_path / "model.onnx"
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(ModelError, match=r"model\.onnx"):
        normalize(path)


def test_folder_is_not_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a folder"):
        normalize(tmp_path)


@pytest.mark.parametrize(("op", "hint"), [("QuantizeLinear", "QCDQToQuant"), ("Relu", "Export")])
def test_model_without_quantizers(op: str, hint: str) -> None:
    builder = GraphBuilder(0, (1, 3, 4, 4))
    scale = [builder.constant(0.1)] if op == "QuantizeLinear" else []
    builder.node(op, ["x", *scale])
    graph = helper.make_graph(
        builder.nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info(f"{op}_0_out", TensorProto.UINT8, [1, 3, 4, 4])],
        builder.initializers,
    )
    with pytest.raises(ModelError, match="is not a QONNX model") as caught:
        normalize(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    assert hint in caught.value.hint


def test_unsupported_operator_is_named() -> None:
    builder = GraphBuilder(0, (1, 3, 4, 4))
    x = builder.node("Softplus", [builder.quant("x", 8)])
    with pytest.raises(
        ModelError, match=r"Node 'Softplus_1' \(Softplus\).*not supported"
    ) as caught:
        normalize(builder.model(x))
    assert "Conv" in caught.value.hint


def test_unknown_domain_is_named() -> None:
    model = graphs.conv_chain()
    model.graph.node[2].domain = "com.example"
    with pytest.raises(ModelError, match=r"Node 'Conv_2' \(Conv\)"):
        normalize(model)


def test_open_image_size_is_refused() -> None:
    model = graphs.conv_chain()
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "H"
    with pytest.raises(ModelError, match="axis 2 of input 'x'"):
        normalize(model)


def test_graph_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    model = graphs.conv_chain()
    del model.graph.node[3].input[2:]
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    with pytest.raises(ModelError, match=r"model\.onnx is not a valid model"):
        normalize(path)


def test_kernel_larger_than_its_image() -> None:
    builder = GraphBuilder(0, (1, 3, 2, 2))
    x = builder.conv(builder.quant("x", 8), 4, 5, pads=(0, 0, 0, 0))
    with pytest.raises(ModelError):
        normalize(builder.model(x))


def test_nodes_in_any_order() -> None:
    model = graphs.residual()
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(nodes[::-1])
    sorted_again = list(normalize(model).graph.node)
    position = {name: index for index, node in enumerate(sorted_again) for name in node.output}
    for index, node in enumerate(sorted_again):
        assert all(position.get(name, -1) < index for name in node.input)


def test_a_cycle_is_refused() -> None:
    model = graphs.conv_chain()
    model.graph.node[2].input[0] = model.graph.node[-1].output[0]
    with pytest.raises(ModelError, match="not a valid model"):
        normalize(model)


@pytest.mark.parametrize("opset", [6, 99])
def test_opsets_beyond_the_known_are_refused(opset: int) -> None:
    model = graphs.conv_chain()
    model.opset_import[0].version = opset
    with pytest.raises(ModelError, match=rf"of opset {opset}\..*7 to"):
        normalize(model)


def test_a_tensor_beyond_memory_is_refused() -> None:
    builder = GraphBuilder(0, (1, 3, 8, 8))
    pads = builder.constant([0, 0, 0, 0, 0, 0, 0, 2**40], np.int64)
    x = builder.node("Pad", [builder.quant("x", 8), pads])
    with pytest.raises(ModelError, match=r"'Pad_1' \(Pad\): .*more elements"):
        normalize(builder.model(x))


def test_constants_are_folded_but_for_quantizers() -> None:
    """A weight norm, as PyTorch exports it: codes of weights are wanted, their floats are not."""
    builder = GraphBuilder(1, (1, 3, 8, 8))
    direction = builder.constant(builder.rng.normal(size=(4, 3, 3, 3)))
    size = builder.node("ReduceL2", [direction, builder.constant([1, 2, 3], np.int64)])
    unit = builder.node("Div", [direction, size])
    scaled = builder.node("Mul", [unit, builder.constant(np.full((4, 1, 1, 1), 0.3))])
    weights = builder.quant(scaled, 4, signed=True, scale=0.04)
    x = builder.node("Conv", [builder.quant("x", 8), weights], 4)
    model = builder.model(x, opset=18)
    before, after = ModelWrapper(model), normalize(model)
    assert [node.op_type for node in after.graph.node] == ["Quant", "Quant", "Conv"]
    image = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
    want = execute_onnx(before.transform(InferShapes()), {"x": image})["y"]
    np.testing.assert_allclose(execute_onnx(after, {"x": image})["y"], want, atol=1e-6)
