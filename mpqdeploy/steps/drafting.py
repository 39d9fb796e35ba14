"""`Draft`: one policy's network, untrained, as something that any process can compile."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mpqdeploy.core import Policy
from mpqdeploy.export.qonnx import export_qonnx
from mpqdeploy.nn import ModelSpec, build_quantized, calibrate
from mpqdeploy.nn.training import seed_everything
from mpqdeploy.provenance import measurements
from mpqdeploy.steps.context import Context
from mpqdeploy.targets.compile import compile_qonnx
from mpqdeploy.targets.records import RecordStore
from mpqdeploy.targets.target import Target

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Draft:
    """All that compiling takes. It pickles.

    `images` set the activation scales; `store` is the URL of the record store that says which
    kernels are fastest.
    """

    spec: ModelSpec
    policy: Policy
    images: tuple[Tensor, ...]
    seed: int
    target: Target
    store: str | None

    @classmethod
    def of(cls, context: Context, policy: Policy) -> Draft:
        return cls(
            spec=context.spec,
            policy=policy,
            images=tuple(context.training_images(1)),
            seed=context.config.seed,
            target=context.target,
            store=context.config.measure.store,
        )

    def network(self) -> nn.Module:
        """Random weights, and activation scales that fit them."""
        seed_everything(self.seed)
        net = build_quantized(self.spec, self.policy)
        calibrate(net, self.images)
        return net

    def compile(self, library: Path) -> Path:
        """Write the shared library. Raises `ModelError` for what cannot be compiled."""
        measured = measurements(self.target, RecordStore(self.store))
        with tempfile.TemporaryDirectory(prefix="mpqdeploy-") as folder:
            model = Path(folder) / "model.qonnx.onnx"
            export_qonnx(self.network(), self.spec.image, model)
            compile_qonnx(model, self.target, library, measured=measured)
        return library
