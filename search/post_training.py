"""Post-training quantization: a float network at a policy's bits, without training it further."""

from __future__ import annotations

from itertools import islice

from torch import nn

from mpqdeploy.core import Policy
from mpqdeploy.data import Dataset, Loader
from mpqdeploy.nn import ModelSpec, build_quantized, calibrate, transfer
from mpqdeploy.nn.training import pick_device, recalibrate_batchnorm

BATCH = 64
CALIBRATION_BATCHES = 4


def quantized_after_training(
    source: nn.Module,
    spec: ModelSpec,
    policy: Policy,
    dataset: Dataset,
    *,
    seed: int = 0,
    device: str = "auto",
) -> nn.Module:
    """`source`'s weights, activation scales calibrated, BatchNorm statistics taken anew.

    The network is on the device that `device` picks. The same images serve for both.
    """
    net = build_quantized(spec, policy).to(pick_device(device))
    missing = transfer(source, net)
    loader = Loader(dataset, "train", batch_size=BATCH, shuffle=True, seed=seed)
    place = next(net.parameters()).device
    images = [x.to(place) for x, _ in islice(iter(loader), CALIBRATION_BATCHES)]
    calibrate(net, images, only=missing)
    recalibrate_batchnorm(net, iter(loader), limit=CALIBRATION_BATCHES)
    return net
