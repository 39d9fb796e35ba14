"""Codes that a compiled library computes but never stores, where it is verified.

A residual stream whose only readers are quantizers stays in registers: the library stores what the
readers make of it. Where the stream's value lies on a rounding threshold, two correct executors may
round it to different sides, and a reader then differs by a whole code although nothing is near a
threshold of its own. Such a difference is a flip of the *stream*, and is found as one: the reader
is computed again on the stream's other code, and that is what the library has [o].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from mpqdeploy.core.agreement import FLIP_LIMIT_ULPS, LayerAgreement

Array = NDArray[Any]
Context = dict[str, Array]
Execute = Callable[[NodeProto, Context], None]

ELEMENTWISE = ("Quant", "IntQuant", "BipolarQuant")
"""Quantizers of one value each, inputs `[x, scale, ...]`: what can be hidden, and what reads it."""


class HiddenCodes:
    """The hidden quantizers of one walk over a graph; `execute` computes a node into a context."""

    def __init__(self, execute: Execute) -> None:
        self._execute = execute
        # By stream: the code beyond the nearest threshold where that is near, else its own.
        self._others: dict[str, Array] = {}
        self._flips: dict[str, Array] = {}

    def note(self, node: NodeProto, context: Context) -> None:
        """`node`, one of `ELEMENTWISE` and just computed, is nothing that the library stores."""
        name = node.output[0]
        value, scale = context[node.input[0]], context[node.input[1]]
        steps = np.float32(np.abs(value / scale).max(initial=0.0))
        reach = np.asarray(FLIP_LIMIT_ULPS * np.spacing(steps) * scale, np.float32)
        above, below = (self._output(node, context, value + s * reach) for s in (1, -1))
        self._others[name] = np.where(above != context[name], above, below)
        self._flips[name] = np.zeros(above.shape, bool)

    def explain(self, node: NodeProto, context: Context, ours: Array) -> None:
        """Take `ours` over where the reference's codes of `node` differ by a hidden flip.

        `ours` has the shape of the node's output. The hidden codes and the output change in
        `context`, so that every other reader must agree with the same flip.
        """
        stream = node.input[0]
        if stream not in self._others or node.op_type not in ELEMENTWISE:
            return
        other = self._others[stream]
        name, step = node.output[0], np.abs(context[node.input[1]])
        differs = np.abs(context[name] - ours) > step / 2
        through = self._output(node, context, other)
        flipped = differs & (np.abs(through - ours) < step / 2)
        if flipped.any():
            self._flips[stream] |= flipped
            context[stream] = np.where(flipped, other, context[stream])
            context[name] = np.where(flipped, through, context[name])

    def agreements(self) -> list[LayerAgreement]:
        """One for every hidden quantizer with flips: all else of it is judged by its readers."""
        return [
            LayerAgreement(
                name=name,
                elements=flips.size,
                flips=int(flips.sum()),
                errors=0,
                worst_ulps=FLIP_LIMIT_ULPS,  # at most: how near exactly is not computed
            )
            for name, flips in self._flips.items()
            if flips.any()
        ]

    def _output(self, node: NodeProto, context: Context, value: Array) -> Array:
        """What `node` makes of another first input."""
        trial = dict(context)
        trial[node.input[0]] = np.asarray(value, np.float32)
        self._execute(node, trial)
        return trial[node.output[0]]
