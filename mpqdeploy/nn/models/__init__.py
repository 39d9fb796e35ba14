"""Network definitions, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from mpqdeploy.nn.models.digits_cnn import DigitsCNN
from mpqdeploy.nn.models.mobile import MobileCifar, MobileDigits
from mpqdeploy.nn.models.mobilenetv2 import MobileNetV2
from mpqdeploy.nn.models.resnet import ResNet18, ResNet50
from mpqdeploy.nn.models.resnet20 import ResNet20
from mpqdeploy.nn.models.retinanet import RetinaNet

MODELS: Mapping[str, Callable[..., nn.Module]] = {
    "digits_cnn": DigitsCNN,
    "mobile_cifar": MobileCifar,
    "mobile_digits": MobileDigits,
    "mobilenetv2": MobileNetV2,
    "resnet18": ResNet18,
    "resnet20": ResNet20,
    "resnet50": ResNet50,
    "retinanet": RetinaNet,
}
