"""`Draft`: one policy's network, untrained, as something that any process can compile."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mpqdeploy.core import Policy
from mpqdeploy.export.qonnx import export_qonnx
from mpqdeploy.nn import ModelSpec, build_quantized, calibrate
from mpqdeploy.nn.training import seed_everything
from mpqdeploy.nn.transfer import act_quantizers
from mpqdeploy.provenance import measurements
from mpqdeploy.steps.context import Context
from mpqdeploy.targets.compile import compile_qonnx
from mpqdeploy.targets.records import RecordStore
from mpqdeploy.targets.target import Target

APART = 1e-3
"""Relative distance of one activation scale to the next: none is much off what fits [o]."""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """All that compiling takes. It pickles.

    `images` `[N, C, H, W]` set the activation scales; `store` is the URL of the record store that
    says which kernels are fastest.
    """

    spec: ModelSpec
    policy: Policy
    images: NDArray[np.float32]
    seed: int
    target: Target
    store: str | None

    @classmethod
    def of(cls, context: Context, policy: Policy) -> Draft:
        return cls(
            spec=context.spec,
            policy=policy,
            images=context.training_images(1)[0].numpy(),
            seed=context.config.seed,
            target=context.target,
            store=context.config.measure.store,
        )

    def network(self) -> nn.Module:
        """Random weights, and activation scales that fit them, none of them special."""
        seed_everything(self.seed)
        net = build_quantized(self.spec, self.policy)
        _stir(net)
        calibrate(net, [torch.from_numpy(self.images)])
        _part(net)
        return net

    def compile(self, library: Path) -> Path:
        """Write the shared library. Raises `ModelError` for what cannot be compiled."""
        measured = measurements(self.target, RecordStore(self.store))
        with tempfile.TemporaryDirectory(prefix="mpqdeploy-") as folder:
            model = Path(folder) / "model.qonnx.onnx"
            export_qonnx(self.network(), self.spec.image, model)
            compile_qonnx(model, self.target, library, measured=measured)
        return library


@torch.no_grad()
def _stir(net: nn.Module) -> None:
    """BatchNorm as no initialisation has it: a shift of 0 or a factor of 1 would be left out."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            state = module.state_dict()
            for positive in ("weight", "running_var"):
                nn.init.uniform_(state[positive], 0.5, 1.5)
            for centred in ("bias", "running_mean"):
                nn.init.normal_(state[centred], std=0.1)


@torch.no_grad()
def _part(net: nn.Module) -> None:
    """No two activation scales equal, as training leaves them.

    Calibration gives two quantizers that read one tensor the same scale, and the compiler then
    stores one tensor for both; a trained network stores two, and takes that much longer.
    """
    for index, quantizer in enumerate(act_quantizers(net).values(), start=1):
        quantizer.set_scale_(float(quantizer.scale) * (1 + APART * index))
