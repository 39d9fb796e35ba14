"""`Precision`: the bit widths of one layer's weights and of its input activations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mpqdeploy.core.errors import ConfigError

MAX_BITS = 8


@dataclass(frozen=True, kw_only=True, order=True)
class Precision:
    """Weight and activation bit width of one site, written `W/A` (`"4/8"`: 4-bit weights).

    1-bit weights are bipolar (-1, +1). 1-bit activations are {0, 1} after a ReLU and bipolar
    where the activation is signed. From 2 bits on, both are two's complement or unsigned integers.
    """

    weight_bits: int
    act_bits: int

    def __post_init__(self) -> None:
        for field, bits in (("weight", self.weight_bits), ("activation", self.act_bits)):
            if not 1 <= bits <= MAX_BITS:
                raise ConfigError(
                    f"{field} bit width {bits} is out of range.",
                    hint=f"Use 1 to {MAX_BITS} bits.",
                )

    def __str__(self) -> str:
        return f"{self.weight_bits}/{self.act_bits}"

    @classmethod
    def parse(cls, text: str) -> Precision:
        """Read `"W/A"`. Raises `ConfigError` for anything else."""
        weight, slash, act = text.partition("/")
        if not slash or not weight.strip().isdecimal() or not act.strip().isdecimal():
            raise ConfigError(
                f"{text!r} is not a precision.",
                hint='Write weight bits, a slash, activation bits: "4/8".',
            )
        return cls(weight_bits=int(weight), act_bits=int(act))


def parse_precisions(texts: Iterable[str]) -> tuple[Precision, ...]:
    """Read a list of `W/A` strings, widest first, duplicates dropped."""
    return tuple(sorted({Precision.parse(text) for text in texts}, reverse=True))
