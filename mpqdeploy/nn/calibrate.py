"""Initial activation scales from data."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import torch
from torch import Tensor, nn

from mpqdeploy.core import DataError
from mpqdeploy.nn.functional import SMALLEST_SCALE
from mpqdeploy.nn.quantizers import ActQuant
from mpqdeploy.nn.transfer import act_quantizers

SAMPLES_PER_BATCH = 8192
STEPS = 64
LEAST_FRACTION = 0.02


@torch.no_grad()
def calibrate(
    net: nn.Module,
    batches: Iterable[Tensor],
    *,
    only: Collection[tuple[str, int]] | None = None,
) -> None:
    """Set activation scales to those of least squared error on `batches` of images `[N, C, H, W]`.

    One pass in evaluation mode with quantized weights and float activations; `only` limits it to
    the quantizers that `transfer` returned. Raises `DataError` if there is no batch.
    """
    chosen = {key: q for key, q in act_quantizers(net).items() if only is None or key in only}
    samples: dict[tuple[str, int], list[Tensor]] = {key: [] for key in chosen}
    was_training = net.training
    net.eval()
    try:
        for key, quantizer in chosen.items():
            notes = samples[key]
            quantizer.observer = lambda x, notes=notes: notes.append(_subsample(x))
        for images in batches:
            net(images)
    finally:
        net.train(was_training)
        for quantizer in chosen.values():
            quantizer.observer = None
    for (name, _), quantizer in chosen.items():
        notes = samples[name, quantizer.bits]
        if not notes:
            raise DataError(
                f"no data reached the activation quantizer of {name!r}.",
                hint="Calibrate with at least one batch of images.",
            )
        quantizer.scale.copy_(_best_scale(torch.cat(notes), quantizer))


def _subsample(x: Tensor) -> Tensor:
    """At most `SAMPLES_PER_BATCH` values at even distances, so that a run repeats exactly."""
    flat = x.reshape(-1)
    return flat[:: max(1, flat.numel() // SAMPLES_PER_BATCH)].clone()


def _best_scale(x: Tensor, quantizer: ActQuant) -> Tensor:
    largest = x.abs().max().clamp_min(SMALLEST_SCALE * quantizer.codes.high / LEAST_FRACTION)
    steps = torch.linspace(0, 1, STEPS, dtype=x.dtype, device=x.device)
    scales = largest * LEAST_FRACTION ** (1 - steps) / quantizer.codes.high
    codes = quantizer.codes
    errors = torch.stack([(codes.quantize(x, scale) - x).square().sum() for scale in scales])
    return scales[errors.argmin()]
