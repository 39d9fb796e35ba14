"""Running a network's QONNX export in qonnx's own executor, the reference for export tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from brevitas.export import export_qonnx
from numpy.typing import NDArray
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.util.cleanup import cleanup_model
from torch import Tensor, nn


def exported(net: nn.Module, example: Tensor, folder: Path) -> ModelWrapper:
    """`net`'s QONNX graph, cleaned up as users are told to."""
    path = folder / "net.onnx"
    export_qonnx(net, args=example[:1], export_path=str(path))
    return cleanup_model(ModelWrapper(str(path)))


def executed(model: ModelWrapper, x: Tensor) -> NDArray[np.float32]:
    """The graph's only output on one batch of size 1."""
    (result,) = execute_onnx(model, {model.graph.input[0].name: x.numpy()}).values()
    return np.asarray(result)


def randomise_batchnorm(net: nn.Module, seed: int = 0) -> None:
    """Statistics and gains unlike those of a fresh BatchNorm, so that a mix-up of them shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                size = module.running_mean.shape
                module.running_mean.copy_(torch.randn(size, generator=generator) * 0.1)
                module.running_var.copy_(torch.rand(size, generator=generator) + 0.5)
                module.weight.copy_(torch.rand(size, generator=generator) + 0.5)
                module.bias.copy_(torch.randn(size, generator=generator) * 0.1)
