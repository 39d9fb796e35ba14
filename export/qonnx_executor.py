"""`QonnxExecutor`: qonnx's executor on whole files, which gives the reference for all others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx

from mpqdeploy.core import ModelError
from mpqdeploy.export.cleaning import clean_qonnx, with_batch
from mpqdeploy.export.executors import (
    Floats,
    QuantizedTensor,
    Reference,
    activation_quantizers,
    load_model,
)


class QonnxExecutor:
    """qonnx's executor on one file, for batches of any size; each size is prepared once.

    Where the graph itself names its batch, as a `Reshape` to constant sizes does, it runs in
    batches of that size.
    """

    def __init__(self, model: Path | onnx.ModelProto) -> None:
        self.model = clean_qonnx(load_model(model))
        self._prepared: dict[int, Any] = {}
        self._own = int(self.model.graph.input[0].type.tensor_type.shape.dim[0].dim_value)
        self._computed = {value.name for value in self.model.graph.input}
        for node in self.model.graph.node:
            if self._computed.intersection(node.input):
                self._computed.update(node.output)

    def context(self, images: Floats) -> dict[str, Floats]:
        """Every tensor of a run on `images` `[N, C, H, W]`, by name. Raises `ModelError` where N is
        no multiple of a batch that the graph names."""
        count = len(images)
        if count not in self._prepared:
            self._prepared[count] = _wrapped(self.model, count)
        if self._prepared[count] is not None:
            return _executed(self._prepared[count], images)
        if count == self._own or count % self._own:
            raise ModelError(
                f"the file's graph is of batches of {self._own}, it cannot run on {count} samples.",
                hint=f"Take a multiple of {self._own}, or export it with an open batch.",
            )
        parts = [
            self.context(images[first : first + self._own]) for first in range(0, count, self._own)
        ]
        joined = {name: np.concatenate([part[name] for part in parts]) for name in self._computed}
        return parts[0] | joined

    def logits(self, images: Floats) -> Floats:
        """The first output, shape `[N, classes]`."""
        return self.context(images)[self.model.graph.output[0].name]

    def reference(self, images: Floats) -> Reference:
        context = self.context(images)
        sources = {node.output[0]: node.input[0] for node in self.model.graph.node}
        tensors = {
            name: QuantizedTensor(
                quantizer=quantizer,
                before=quantizer.before(context[sources[name]]),
                values=context[name],
            )
            for name, quantizer in activation_quantizers(self.model).items()
        }
        outputs = {value.name: context[value.name] for value in self.model.graph.output}
        return Reference(images=images, tensors=tensors, outputs=outputs)


def _wrapped(model: onnx.ModelProto, batch: int) -> Any:
    """The model for another batch size, as qonnx executes it; None where its graph is of one."""
    wrapper = with_batch(model, batch)
    shapes = [wrapper.get_tensor_shape(value.name) for value in wrapper.graph.output]
    known = wrapper.check_all_tensor_shapes_specified()
    return wrapper if known and all(shape[0] == batch for shape in shapes) else None


def _executed(wrapper: Any, images: Floats) -> dict[str, Floats]:
    from qonnx.core.onnx_exec import execute_onnx

    feed = {wrapper.graph.input[0].name: images}
    context: dict[str, Floats] = execute_onnx(wrapper, feed, return_full_exec_context=True)
    return context


def qonnx_reference(model: Path | onnx.ModelProto, images: Floats) -> Reference:
    """Run qonnx's executor on `images` `[N, C, H, W]`, whatever batch the file is fixed to."""
    return QonnxExecutor(model).reference(images)


def qonnx_logits(model: Path | onnx.ModelProto, images: Floats) -> Floats:
    """First output of qonnx's executor, shape `[N, classes]`."""
    return QonnxExecutor(model).logits(images)
