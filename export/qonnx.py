"""A Brevitas network as a QONNX file: exported, cleaned, named after its layers, and checked."""

from __future__ import annotations

import copy
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import torch
from brevitas.export.onnx.qonnx.function import BrevitasBinaryQuantOp, BrevitasQuantOp
from brevitas.export.onnx.qonnx.handler import BrevitasActQuantProxyHandler
from brevitas.export.onnx.qonnx.manager import QONNXDynamoManager
from numpy.typing import NDArray
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.base import Transformation
from qonnx.transformation.general import RemoveUnusedTensors
from qonnx.util.cleanup import cleanup_model
from torch import nn

from mpqdeploy.core import ModelError
from mpqdeploy.core.agreement import LayerAgreement
from mpqdeploy.core.files import replacing
from mpqdeploy.export.executors import torch_layers
from mpqdeploy.export.naming import name_nodes
from mpqdeploy.export.qonnx_executor import qonnx_reference
from mpqdeploy.export.sharing import number_runs, share_weights
from mpqdeploy.nn import task_of

INPUT = "input"
_CHECK_BATCH = 4


def export_qonnx(
    net: nn.Module, image: tuple[int, int, int], path: Path, *, batch: int = 1, seed: int = 0
) -> tuple[LayerAgreement, ...]:
    """Write `net` to `path` as QONNX and return how its layers agreed with torch.

    `image` is (channels, height, width); the file's input `input` is `[batch, C, H, W]` float32,
    its outputs are called as the network's task says: `logits` for a classifier. The file is
    checked before it takes its name: on a random batch drawn from `seed`, every activation
    quantizer of qonnx's executor is compared with torch on identical inputs. Raises `ModelError`
    where codes differ beyond rounding. `net` is left as it was.
    """
    model = _clean(_brevitas_model(net, (batch, *image)), task_of(net).outputs)
    check = np.random.default_rng(seed).standard_normal((batch * _CHECK_BATCH, *image))
    agreements = _compare(net, model, check.astype(np.float32))
    with replacing(path) as temporary:
        onnx.save(model.model, temporary)
    return agreements


class _SignAwareActivations(BrevitasActQuantProxyHandler):  # type: ignore[misc]
    """Brevitas writes every 1-bit quantizer as `BipolarQuant`, also an unsigned one behind a ReLU,

    whose codes are {0, 1}: a network with 1-bit ReLUs would come out with constant activations.
    """

    def prepare_for_export(self, module: nn.Module) -> None:
        super().prepare_for_export(module)
        if module.is_quant_enabled:
            binary = self.symbolic_kwargs["bit_width"] == 1 and self.symbolic_kwargs["signed"]
            self.quant_op = BrevitasBinaryQuantOp if binary else BrevitasQuantOp


class _Manager(QONNXDynamoManager):  # type: ignore[misc]
    handlers = (
        _SignAwareActivations,
        *(h for h in QONNXDynamoManager.handlers if h is not BrevitasActQuantProxyHandler),
    )


def _brevitas_model(net: nn.Module, shape: tuple[int, ...]) -> onnx.ModelProto:
    net = copy.deepcopy(net).eval()
    for module in net.modules():
        if getattr(module, "export_handler", None) is not None:
            # Another export's handlers would shadow ours.
            setattr(module, "export_handler", None)  # noqa: B010 (torch types attributes)
    with tempfile.TemporaryDirectory() as folder, _quiet():
        model: onnx.ModelProto = _Manager.export(
            net,
            torch.zeros(shape),
            export_path=str(Path(folder) / "model.onnx"),
            input_names=[INPUT],
            output_names=list(task_of(net).outputs),
            dynamo=True,
            optimize=True,
            external_data=False,
            verbose=False,
        )
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter logs missing optional packages and its own progress."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


class _BatchFreeOps(Transformation):  # type: ignore[misc]
    """Reshape to [N, everything] becomes Flatten, and a mean over H and W GlobalAveragePool.

    torch writes the traced batch size into a Reshape; both forms say what they mean, and stay right
    for another batch.
    """

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        for node in model.graph.node:
            shape = model.get_tensor_shape(node.input[0])
            if node.op_type == "Reshape" and shape is not None:
                target = model.get_tensor_shape(node.output[0])
                if target == [shape[0], int(np.prod(shape[1:]))]:
                    _become(node, "Flatten", axis=1)
            elif node.op_type == "ReduceMean" and shape is not None and len(shape) == 4:
                axes = model.get_initializer(node.input[1]) if len(node.input) > 1 else None
                keeps = all(item.i for item in node.attribute if item.name == "keepdims")
                if axes is not None and keeps and {int(a) % 4 for a in axes.reshape(-1)} == {2, 3}:
                    _become(node, "GlobalAveragePool")
        return model, False


def _become(node: onnx.NodeProto, op_type: str, **attributes: int) -> None:
    node.op_type = op_type
    del node.input[1:]
    del node.attribute[:]
    node.attribute.extend(onnx.helper.make_attribute(k, v) for k, v in attributes.items())


def _clean(model: onnx.ModelProto, outputs: tuple[str, ...]) -> ModelWrapper:
    number_runs(model)
    wrapper = cleanup_model(ModelWrapper(model))
    share_weights(wrapper.model)
    for step in (_BatchFreeOps(), RemoveUnusedTensors()):
        # qonnx's own copy and clean-up around every step take seconds on a deep network.
        wrapper = wrapper.transform(step, make_deepcopy=False, cleanup=False)
    name_nodes(wrapper.model, (INPUT,), outputs)
    return wrapper


def _compare(
    net: nn.Module, model: ModelWrapper, images: NDArray[np.float32]
) -> tuple[LayerAgreement, ...]:
    """Layers of torch against qonnx's executor. Raises `ModelError` where they disagree."""
    reference = qonnx_reference(model.model, images)
    agreements = reference.compare(torch_layers(net, reference))
    for layer in agreements:
        if not layer.holds:
            raise ModelError(
                f"the exported file disagrees with torch at {layer.name!r}: {layer.errors} of "
                f"{layer.elements} values differ by more than rounding.",
                hint="The layer before it uses an operation that QONNX does not express.",
            )
    return agreements
