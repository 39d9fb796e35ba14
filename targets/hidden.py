"""Codes that a compiled library computes but never stores, where it is verified.

A residual stream whose only readers are quantizers stays in registers: the library stores what the
readers make of it. Where the stream's value lies on a rounding threshold, two correct executors may
round it to different sides, and a reader then differs by a whole code although nothing is near a
threshold of its own. Such a difference is a flip of the *stream*, and is found as one: the reader
is computed again on the stream's other code, and that is what the library has [o].

A stream whose maxima a kernel takes before its epilogue is hidden, too, and the maxima are what is
read of it: of codes with the greater, or the smaller, of two on either side of a threshold. So is
one whose codes are stored in another order only, as behind a normalization of tokens.
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
MAXIMA = "MaxPool"
"""What else reads hidden codes, and is hidden with them."""
MOVES = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze")
"""What only puts them elsewhere."""


class HiddenCodes:
    """The hidden quantizers of one walk over a graph; `execute` computes a node into a context."""

    def __init__(self, execute: Execute) -> None:
        self._execute = execute
        # By stream: the code beyond the nearest threshold where that is near, else its own; and by
        # how much its codes differ.
        self._others: dict[str, Array] = {}
        self._steps: dict[str, Array] = {}
        self._flips: dict[str, Array] = {}

    def note(self, node: NodeProto, context: Context) -> None:
        """`node`, just computed, is nothing that the library stores."""
        name = node.output[0]
        if self._moves(node):
            stream = node.input[0]
            self._others[name] = self._output(node, context, self._others[stream])
            self._steps[name] = self._steps[stream]
        if node.op_type == MAXIMA and node.input[0] in self._others:
            above, below = self._maxima(node, context)
            self._hide(name, context, above, below, self._steps[node.input[0]])
        if node.op_type not in ELEMENTWISE:
            return
        value, scale = context[node.input[0]], context[node.input[1]]
        steps = np.float32(np.abs(value / scale).max(initial=0.0))
        reach = np.asarray(FLIP_LIMIT_ULPS * np.spacing(steps) * scale, np.float32)
        above, below = (self._output(node, context, value + s * reach) for s in (1, -1))
        self._hide(name, context, above, below, np.abs(scale))

    def explain(self, node: NodeProto, context: Context, ours: Array) -> None:
        """Take `ours` over where the reference's codes of `node` differ by a hidden flip.

        `ours` has the shape of the node's output. The hidden codes and the output change in
        `context`, so that every other reader must agree with the same flip.
        """
        stream = node.input[0]
        if stream not in self._others:
            return
        if node.op_type == MAXIMA:
            for through in self._maxima(node, context):
                self._take(node, context, ours, through, self._steps[stream])
        elif self._moves(node):
            through = self._output(node, context, self._others[stream])
            self._take(node, context, ours, through, self._steps[stream])
        elif node.op_type in ELEMENTWISE:
            through = self._output(node, context, self._others[stream])
            step = np.abs(context[node.input[1]])
            flipped = self._take(node, context, ours, through, step)
            context[stream] = np.where(flipped, self._others[stream], context[stream])

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

    def _moves(self, node: NodeProto) -> bool:
        """Whether `node` moves hidden codes, of one scale for all."""
        known = node.op_type in MOVES and node.input[0] in self._others
        return known and bool(self._steps[node.input[0]].size == 1)

    def _hide(self, name: str, context: Context, above: Array, below: Array, step: Array) -> None:
        self._others[name] = np.where(above != context[name], above, below)
        self._steps[name] = step

    def _take(
        self, node: NodeProto, context: Context, ours: Array, through: Array, step: Array
    ) -> Array:
        """Where `ours` is what `node` makes of the stream's other codes, `through`, and of its own
        it is not: that is counted, and goes into `context`."""
        name, stream = node.output[0], node.input[0]
        differs = np.abs(context[name] - ours) > step / 2
        flipped: Array = differs & (np.abs(through - ours) < step / 2)
        if flipped.any():
            self._flips[stream] = self._flips.get(stream, np.zeros(ours.shape, bool)) | flipped
            context[name] = np.where(flipped, through, context[name])
        return flipped

    def _maxima(self, node: NodeProto, context: Context) -> tuple[Array, Array]:
        """What `node` makes of the greater and of the smaller codes of a hidden stream."""
        own, other = context[node.input[0]], self._others[node.input[0]]
        above, below = np.maximum(own, other), np.minimum(own, other)
        return self._output(node, context, above), self._output(node, context, below)

    def _output(self, node: NodeProto, context: Context, value: Array) -> Array:
        """What `node` makes of another first input."""
        trial = dict(context)
        trial[node.input[0]] = np.asarray(value, np.float32)
        self._execute(node, trial)
        return trial[node.output[0]]
