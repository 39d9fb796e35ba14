"""Resize and Upsample to the nearest pixel: a view, where whole factors say it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.targets.passes.integerize.builder import Value
from mpqdeploy.targets.passes.integerize.context import Context, Handler
from mpqdeploy.targets.passes.integerize.expressions import Doubles
from mpqdeploy.targets.passes.node import Node
from mpqdeploy.targets.views import Axis, Resample


def resize(context: Context, node: Node) -> Value:
    value = context.image(node)
    shape = tuple(context.model.get_tensor_shape(node.output) or ())
    mode = node.text("mode", "nearest")
    if mode != "nearest" or len(value.shape) != 4 or value.shape[:2] != shape[:2]:
        raise node.error(
            f"it resizes {list(value.shape)} to {list(shape)} in mode {mode}",
            hint="Only height and width of images, to the nearest pixel, are supported.",
        )
    scales = _scales(context, node, value.shape, shape)
    opset = context.model.get_opset_imports()[""]
    axes = [_axis(node, opset, value.shape[i], shape[i], scales[i]) for i in (2, 3)]
    view = Resample(
        shape=(shape[2], shape[3], shape[1]),
        source=value.group.shape[1:],
        rows=axes[0],
        columns=axes[1],
    )
    return context.seen(node, value, view, shape)


def _scales(
    context: Context, node: Node, source: tuple[int, ...], result: tuple[int, ...]
) -> list[float]:
    if node.has("scales"):  # before opset 9
        return [float(scale) for scale in node.numbers("scales")]
    if node.has("axes"):
        raise node.error("it names axes")
    given = context.array(node, 1 if node.op == "Upsample" or len(node.inputs) == 2 else 2)
    if given is not None and given.size == len(source):
        return [float(scale) for scale in given.reshape(-1)]
    if node.text("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise node.error("it keeps the aspect ratio")
    return [new / old for old, new in zip(source, result, strict=True)]


def _axis(node: Node, opset: int, source: int, result: int, scale: float) -> Axis:
    """The whole-number rule that gives ONNX's own positions, found by trying it."""
    wanted = _positions(node, opset, source, result, scale)
    for divide, step in ((math.ceil(scale), 1), (1, math.ceil(1 / scale))):
        for offset in range(-divide, divide + step):
            axis = Axis(step=step, offset=offset, divide=divide)
            if np.array_equal(axis.at(np.arange(result)), wanted):
                return axis
    raise node.error(
        f"it resizes {source} pixels to {result}, which no whole factor says",
        hint="Resize by a whole factor.",
    )


def _positions(node: Node, opset: int, source: int, result: int, scale: float) -> NDArray[np.int64]:
    """Pixels of the source, as ONNX defines them for the nearest mode."""
    at = np.arange(result, dtype=np.float64)
    exact: Doubles
    old = opset < 11  # without attributes: floor(i / scale)
    how = "asymmetric" if old else node.text("coordinate_transformation_mode", "half_pixel")
    rounding = "floor" if old else node.text("nearest_mode", "round_prefer_floor")
    if how == "asymmetric":
        exact = at / scale
    elif how == "half_pixel" or (how == "pytorch_half_pixel" and result > 1):
        exact = (at + 0.5) / scale - 0.5
    elif how == "pytorch_half_pixel":
        exact = at * 0.0
    elif how == "align_corners":
        exact = at * (source - 1) / max(result - 1, 1)
    else:
        raise node.error(f"its coordinate_transformation_mode {how} is not supported")
    nearest = {
        "round_prefer_floor": np.ceil(exact - 0.5),
        "round_prefer_ceil": np.floor(exact + 0.5),
        "floor": np.floor(exact),
        "ceil": np.ceil(exact),
    }.get(rounding)
    if nearest is None:
        raise node.error(f"its nearest_mode {rounding} is not known")
    return np.clip(nearest, 0, source - 1).astype(np.int64)


HANDLERS: dict[str, Handler] = {"Resize": resize, "Upsample": resize}
