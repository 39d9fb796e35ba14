"""Detection with a loaded bundle: letterbox, run, decode. numpy and Pillow; no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mpqdeploy.core import ModelError
from mpqdeploy.core.detection import Detections
from mpqdeploy.core.letterbox import Letterbox

if TYPE_CHECKING:
    from mpqdeploy.loading import Model


def detect(model: Model, image: NDArray[np.uint8]) -> Detections:
    """See `Model.detect`."""
    decoding = model.manifest.decoding
    if decoding is None:
        raise ModelError(
            f"the bundle {model.manifest.name!r} is no detector: it says nothing about boxes.",
            hint="Call the model itself for its outputs.",
        )
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ModelError(
            f"detect takes one image, uint8 [H, W, 3], not {pixels.dtype} {list(pixels.shape)}.",
            hint="For instance: numpy.asarray(Image.open(path).convert('RGB')).",
        )
    box = Letterbox.fit((pixels.shape[0], pixels.shape[1]), decoding.anchors.image)
    canvas = box.paste(_resized(pixels, box.inner))
    entry = model.manifest.inputs[0]
    outputs = model.run({entry.name: model.preprocess(canvas)})
    (found,) = decoding([outputs[tensor.name] for tensor in model.manifest.outputs])
    return Detections(boxes=box.to_image(found.boxes), scores=found.scores, labels=found.labels)


def _resized(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """To (width, height), as the training data were."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ModelError(
            "Pillow is not installed, and images are resized by it.", hint="pip install pillow"
        ) from error
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(picture.resize(size, Image.Resampling.BILINEAR))
