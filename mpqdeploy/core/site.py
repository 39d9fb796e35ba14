"""`Site`: one quantizable layer of a network, with the geometry that its cost depends on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from mpqdeploy.core.precision import Precision

Op = Literal["conv", "linear"]
Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Shape of a convolution or a fully connected layer, batch 1.

    A linear layer is a 1x1 convolution on a 1x1 image. `padding` is (top, left, bottom, right);
    `in_size` and `out_size` are (height, width) in pixels.
    """

    op: Op
    in_channels: int
    out_channels: int
    in_size: Pair = (1, 1)
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    act_signed: bool = False

    @property
    def out_size(self) -> Pair:
        top, left, bottom, right = self.padding
        return (
            _out(self.in_size[0] + top + bottom, self.kernel[0], self.stride[0], self.dilation[0]),
            _out(self.in_size[1] + left + right, self.kernel[1], self.stride[1], self.dilation[1]),
        )

    @property
    def weights(self) -> int:
        """Number of weights."""
        taps = self.kernel[0] * self.kernel[1]
        return self.out_channels * (self.in_channels // self.groups) * taps

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one input, taps on padding included."""
        height, width = self.out_size
        return self.weights * height * width

    @property
    def depthwise(self) -> bool:
        return self.groups > 1 and self.groups == self.in_channels

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Geometry:
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in data.items()
        }
        return cls(**fields)


@dataclass(frozen=True, kw_only=True)
class Site:
    """One quantizable layer: its name in the network (`"layer1.0.conv1"`) and its geometry.

    `pinned` holds the only precision that the layer may take (the first and the last layer stay
    at 8/8 unless the user says otherwise [r]); `None` leaves the choice to the search. A layer
    that one inference runs several times, such as a detector's head on every level of its
    pyramid, has its further runs in `again`: it has one precision and one set of weights, and
    costs the sum of its runs.
    """

    name: str
    geometry: Geometry
    pinned: Precision | None = None
    again: tuple[Geometry, ...] = ()

    @property
    def runs(self) -> tuple[Geometry, ...]:
        """The geometry of every run, in order."""
        return (self.geometry, *self.again)

    @property
    def macs(self) -> int:
        return sum(geometry.macs for geometry in self.runs)

    @property
    def weights(self) -> int:
        return self.geometry.weights


def _out(padded: int, kernel: int, stride: int, dilation: int) -> int:
    return (padded - dilation * (kernel - 1) - 1) // stride + 1
