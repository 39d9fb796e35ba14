from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from mpqdeploy.core import ModelError
from mpqdeploy.export.executors import activation_quantizers
from mpqdeploy.export.qonnx import export_qonnx
from mpqdeploy.export.qonnx_executor import qonnx_logits
from tests.export.networks import IMAGE, images, mixed_net


def test_interface_and_names(qonnx_file: Path) -> None:
    model = onnx.load(qonnx_file)
    assert [value.name for value in model.graph.input] == ["input"]
    assert [value.name for value in model.graph.output] == ["logits"]
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    assert shape == [1, *IMAGE]
    names = {node.name: node.op_type for node in model.graph.node}
    assert names["conv1"] == "Conv"
    assert names["bn2"] == "BatchNormalization"
    assert names["conv2.weight_quant"] == "Quant"
    assert names["fc"] == "Gemm"
    assert {"flatten": "Flatten", "pool.globalaveragepool": "GlobalAveragePool"}.items() <= (
        names.items()
    )


def test_no_trace_of_the_exporting_machine(qonnx_file: Path) -> None:
    content = qonnx_file.read_bytes()
    assert b"site-packages" not in content
    assert b".py" not in content


def test_one_bit_relu_stays_unsigned(qonnx_file: Path) -> None:
    quantizers = activation_quantizers(onnx.load(qonnx_file))
    relu = quantizers["relu3.act_quant"]
    assert (relu.low, relu.high, relu.bipolar) == (0, 1, False)
    sign = quantizers["sign.act_quant"]
    assert (sign.low, sign.high, sign.bipolar) == (-1, 1, True)


def test_logits_are_torch_s(qonnx_file: Path) -> None:
    x = images(8)
    with torch.no_grad():
        expected = mixed_net()(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(qonnx_logits(qonnx_file, x), expected, rtol=1e-4, atol=1e-4)


def test_network_is_left_as_it_was(tmp_path: Path) -> None:
    net = mixed_net().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    export_qonnx(net, IMAGE, tmp_path / "a.onnx", batch=2)
    assert net.training
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    first = onnx.load(tmp_path / "a.onnx").graph.input[0].type.tensor_type.shape.dim[0]
    assert first.dim_value == 2


class _Drifting(nn.Module):
    """Computes something else while it is traced, as an operation that export misreads would."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mixed_net()

    def forward(self, x: Tensor) -> Tensor:
        factor = 2.0 if torch.compiler.is_exporting() else 1.0
        logits: Tensor = self.net(x * factor)
        return logits


def test_disagreement_is_an_error_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"net\.entry\.act_quant"):
        export_qonnx(_Drifting().eval(), IMAGE, tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())
