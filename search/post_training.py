"""Post-training quantization: a float network at a policy's bits, without training it further."""

from __future__ import annotations

from itertools import islice

from torch import nn

from mpqdeploy.core import Policy
from mpqdeploy.data import Dataset, Loader
from mpqdeploy.nn import ModelSpec, build_quantized, calibrate, float_activations, transfer
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
    """`source`'s weights, BatchNorm statistics taken anew, activation scales calibrated to them.

    The statistics come first: scales that fit those of other weights, or of a running mean that
    lags behind a short training, are off by a factor per layer, and the gradients of a deep
    network then by the product of them all (norms of 1e5 at 8/8 and 1e14 at 1/1 in MobileNetV2
    after 12 steps of training, where they are 11 and 99 this way [o]).

    Images are augmented as they were in training. Statistics of plain ones are others, and cost a
    pretrained ResNet-20 five points at 8/8 [o]. The network is on the device that `device` picks.
    """
    place = pick_device(device)
    net = build_quantized(spec, policy).to(place)
    missing = transfer(source, net)
    loader = Loader.training(dataset, "train", batch_size=BATCH, seed=seed)
    batches = [(x.to(place), y) for x, y in islice(iter(loader), CALIBRATION_BATCHES)]
    with float_activations(net):
        recalibrate_batchnorm(net, batches)
    calibrate(net, [images for images, _ in batches], only=missing)
    recalibrate_batchnorm(net, batches)
    return net
