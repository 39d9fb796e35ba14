"""What the result is held against: the float network and int8 as a user of onnxruntime makes it."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from mpqdeploy.core import ModelError
from mpqdeploy.core.files import replacing
from mpqdeploy.export.executors import load_model
from mpqdeploy.nn import task_of

INPUT = "input"
OPSET = 21

Batches = Iterable[NDArray[np.float32]]


def float_onnx(net: nn.Module, image: tuple[int, int, int], path: Path, *, batch: int = 1) -> None:
    """Write the float32 network `net` in eval mode; input `[batch, C, H, W]`, outputs as its task
    calls them."""
    training = net.training
    net.eval()
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it lists optional packages that are not installed
    try:
        with warnings.catch_warnings(), replacing(path) as temporary:
            warnings.simplefilter("ignore")
            torch.onnx.export(
                net,
                (torch.zeros(batch, *image),),
                str(temporary),
                input_names=[INPUT],
                output_names=list(task_of(net).outputs),
                dynamo=True,
                opset_version=OPSET,
                external_data=False,
                verbose=False,
            )
            _strip(temporary)
    finally:
        net.train(training)
        logger.setLevel(level)


def _strip(path: Path) -> None:
    """Drop the exporter's notes (source lines and folders of this machine)."""
    model = onnx.load(path)
    for item in (*model.graph.node, *model.graph.value_info, *model.graph.initializer):
        del item.metadata_props[:]
    del model.graph.metadata_props[:]
    onnx.save(model, path)


def int8_baseline(
    source: Path,
    calibration: Batches,
    path: Path,
    *,
    reduce_range: bool = False,
    unsigned_weights: bool = False,
) -> None:
    """Quantize a float ONNX file by onnxruntime's own static quantization.

    As its documentation advises for x86: pre-processed (shapes, fused BatchNormalization), QDQ,
    uint8 activations by min-max calibration, int8 weights per channel. Each calibration batch is
    `[N, C, H, W]` and is fed in pieces of the file's own batch size. `reduce_range` (7-bit weights)
    stays off: with VNNI no sum saturates; `unsigned_weights` are what CPUs without VNNI like.
    Raises `ModelError` without calibration data or for an unreadable file.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    model = load_model(source)
    reader = _Reader(model, calibration)
    if reader.empty:
        raise ModelError(
            f"{source} cannot be quantized without calibration data.",
            hint="Give at least one batch of training images.",
        )
    logger = logging.getLogger()
    with tempfile.TemporaryDirectory() as folder, replacing(path) as temporary:
        prepared = Path(folder) / "prepared.onnx"
        level = logger.level
        logger.setLevel(logging.ERROR)  # it logs advice on the root logger
        try:
            quant_pre_process(source, prepared, skip_symbolic_shape=True)
            quantize_static(
                prepared,
                temporary,
                reader,
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                reduce_range=reduce_range,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QUInt8 if unsigned_weights else QuantType.QInt8,
            )
        finally:
            logger.setLevel(level)


class _Reader:
    """onnxruntime's `CalibrationDataReader`, which is any class with `get_next`."""

    def __init__(self, model: onnx.ModelProto, batches: Batches) -> None:
        entry = model.graph.input[0]
        self._name = entry.name
        self._size = entry.type.tensor_type.shape.dim[0].dim_value or 1
        self._pieces = self._split(batches)
        self._next = next(self._pieces, None)

    @property
    def empty(self) -> bool:
        return self._next is None

    def get_next(self) -> dict[str, Any] | None:
        piece, self._next = self._next, next(self._pieces, None)
        return None if piece is None else {self._name: piece}

    def _split(self, batches: Batches) -> Iterator[NDArray[np.float32]]:
        """Whole pieces only: the file's batch size is fixed."""
        for batch in batches:
            for start in range(0, len(batch) - self._size + 1, self._size):
                yield np.asarray(batch[start : start + self._size], np.float32)
