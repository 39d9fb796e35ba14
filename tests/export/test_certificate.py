from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from mpqdeploy.core.agreement import LayerAgreement
from mpqdeploy.export.certificate import certify, default_predictors
from mpqdeploy.export.executors import Floats
from mpqdeploy.export.qonnx_executor import qonnx_logits
from tests.export.networks import images, mixed_net


def test_executors_of_one_network_agree(qonnx_file: Path, standard_file: Path) -> None:
    net = mixed_net()
    predictors = default_predictors(qonnx_file, net=net, standard=standard_file)
    certificate = certify(
        qonnx_file,
        images=images(4),
        net=net,
        standard=standard_file,
        predictors=predictors,
        test_batches=[images(10, seed=2), images(7, seed=3)],
        least_rate=0.9,
    )
    assert set(certificate.layers) == {"torch", "onnxruntime"}
    assert {layer.name for layer in certificate.layers["torch"]} == {
        "entry.act_quant",
        "relu1.act_quant",
        "sign.act_quant",
        "relu3.act_quant",
        "exit.act_quant",
        "logits",
    }
    assert [pair.samples for pair in certificate.predictions] == [17, 17, 17]
    assert certificate.holds, certificate.failures()


def _altered(path: Path, target: Path, name: str, factor: float) -> Path:
    model = onnx.load(path)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    values = numpy_helper.to_array(tensor) * np.float32(factor)
    tensor.CopyFrom(numpy_helper.from_array(values, name))
    onnx.save(model, target)
    return target


def test_a_wrong_layer_is_found_where_it_is(
    qonnx_file: Path, standard_file: Path, tmp_path: Path
) -> None:
    wrong = _altered(standard_file, tmp_path / "wrong.onnx", "conv2.weight_quant.scale", 1.05)
    certificate = certify(qonnx_file, images=images(8), standard=wrong)
    bad = [layer.name for layer in certificate.layers["onnxruntime"] if not layer.holds]
    assert bad == ["sign.act_quant"]
    assert not certificate.holds


def test_other_executors_come_in_from_outside(qonnx_file: Path) -> None:
    layer = LayerAgreement(name="relu1", elements=10, flips=1, errors=0, worst_ulps=1.0)

    def contrary(x: Floats) -> Floats:
        return -qonnx_logits(qonnx_file, x)

    predictors = default_predictors(qonnx_file) | {"compiled": contrary}
    certificate = certify(
        qonnx_file,
        images=images(1),
        layers={"compiled": [layer]},
        predictors=predictors,
        test_batches=[images(10)],
    )
    assert certificate.layers["compiled"] == (layer,)
    (pair,) = certificate.predictions
    assert (pair.first, pair.second, pair.agreeing) == ("qonnx", "compiled", 0)
    assert not certificate.holds


def test_another_network_s_file_is_an_error(qonnx_file: Path) -> None:
    import brevitas.nn as qnn

    from mpqdeploy.core import ModelError

    other = qnn.QuantLinear(4, 2, bias=True)
    with pytest.raises(ModelError, match=r"'entry\.act_quant' of the file is no module"):
        certify(qonnx_file, images=images(1), net=other)
