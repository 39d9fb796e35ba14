"""What the compiled networks are to reach: the aims, as data. `verdicts` says which are met."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Measure(Enum):
    """What is compared with a number: the column of the summary, and whether more is better."""

    PEER = ("x better int8 peer", True)
    LIMIT = ("of the vpdpbusd limit", True)
    OWN = ("x own 8/8", True)
    BYTES = ("bytes of own 8/8", False)
    LAYERS = ("constants of these layers, bytes of own 8/8", False)
    COMPILE = ("s to compile", False)
    TUNE = ("s to tune, cold", False)

    def __init__(self, label: str, more: bool) -> None:
        self.label = label
        self.more = more


@dataclass(frozen=True, kw_only=True)
class Aim:
    """One number that a network at a precision of its interior is to reach."""

    network: str
    precision: str
    measure: Measure
    wanted: float


def _aims(network: str, measure: Measure, **wanted: float) -> tuple[Aim, ...]:
    """`w2a4=1.5`: 2-bit weights and 4-bit activations are to reach 1.5."""
    return tuple(
        Aim(network=network, precision=f"{key[1]}/{key[3]}", measure=measure, wanted=value)
        for key, value in wanted.items()
    )


AIMS = (
    *_aims("resnet18", Measure.PEER, w8a8=1.0, w2a2=1.5, w2a4=1.5, w1a4=2.2, w1a1=3.0),
    *_aims("resnet18", Measure.LIMIT, w8a8=0.85),
    *_aims("resnet18", Measure.COMPILE, w8a8=30, w1a1=30),
    *_aims("resnet18", Measure.TUNE, w8a8=180, w1a1=180),
    *_aims("resnet20", Measure.PEER, w8a8=1.5, w2a2=1.8, w2a4=1.8, w1a1=2.5),
    *_aims("mobilenetv2", Measure.PEER, w8a8=1.2),
    *_aims("mobilenetv2", Measure.OWN, w4a4=1.0, w1a2=1.0, w1a1=1.0),
    *_aims("mobilenetv2", Measure.BYTES, w4a4=0.5, w1a2=0.5, w1a1=0.5),
    *_aims("mobilenetv2", Measure.LAYERS, w4a4=0.5, w1a2=0.5, w1a1=0.5),
)
