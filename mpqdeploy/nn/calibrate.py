"""Initial activation scales from data."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mpqdeploy.core import DataError
from mpqdeploy.nn.functional import SMALLEST_SCALE, Codes
from mpqdeploy.nn.transfer import act_quantizers

SAMPLES_PER_BATCH = 8192
STEPS = 64
LEAST_FRACTION = 0.02
# From this width on, the whole range is kept: clipping to the least squared error, which the many
# small values decide, cuts off the few large ones that carry the class. A pretrained ResNet-20 at
# 8/8 loses 0.7% of accuracy that way and nothing with the whole range [o].
WHOLE_RANGE_BITS = 7


class _Observation:
    """What passed one quantizer: the greatest magnitude and an even sample of the values."""

    def __init__(self) -> None:
        self.largest = SMALLEST_SCALE
        self.samples: list[Tensor] = []

    def __call__(self, x: Tensor) -> None:
        """Values at even distances, so that a run repeats exactly."""
        self.largest = max(self.largest, float(x.abs().max()))
        flat = x.reshape(-1)
        self.samples.append(flat[:: max(1, flat.numel() // SAMPLES_PER_BATCH)].clone())


@torch.no_grad()
def calibrate(
    net: nn.Module,
    batches: Iterable[Tensor],
    *,
    only: Collection[tuple[str, int]] | None = None,
) -> None:
    """Set activation scales from `batches` of images `[N, C, H, W]`: least squared error, or range.

    One pass in evaluation mode with quantized weights and float activations; `only` limits it to
    the quantizers that `transfer` returned. Raises `DataError` if there is no batch.
    """
    chosen = {key: q for key, q in act_quantizers(net).items() if only is None or key in only}
    seen = {key: _Observation() for key in chosen}
    was_training = net.training
    net.eval()
    try:
        for key, quantizer in chosen.items():
            quantizer.observer = seen[key]
        for images in batches:
            net(images)
    finally:
        net.train(was_training)
        for quantizer in chosen.values():
            quantizer.observer = None
    for (name, bits), quantizer in chosen.items():
        observation = seen[name, bits]
        if not observation.samples:
            raise DataError(
                f"no data reached the activation quantizer of {name!r}.",
                hint="Calibrate with at least one batch of images.",
            )
        quantizer.set_scale_(_best_scale(observation, quantizer.codes, bits))


@contextmanager
def float_activations(net: nn.Module) -> Iterator[None]:
    """Activations pass unquantized in the block, weights stay quantized."""
    quantizers = act_quantizers(net).values()
    for quantizer in quantizers:
        quantizer.observer = _look_away
    try:
        yield
    finally:
        for quantizer in quantizers:
            quantizer.observer = None


def _look_away(x: Tensor) -> None:
    pass


def _best_scale(seen: _Observation, codes: Codes, bits: int) -> float:
    if bits >= WHOLE_RANGE_BITS:
        return max(seen.largest / codes.high, SMALLEST_SCALE)
    x = torch.cat(seen.samples)
    steps = torch.linspace(0, 1, STEPS, dtype=x.dtype, device=x.device)
    scales = seen.largest * LEAST_FRACTION ** (1 - steps) / codes.high
    errors = [(codes.quantize(x, scale) - x).square().sum() for scale in scales]
    return max(float(scales[torch.stack(errors).argmin()]), SMALLEST_SCALE)
