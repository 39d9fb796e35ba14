"""`Model.detect` on a library that says what it is told, and what it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mpqdeploy.core import ModelError, Preprocessing
from mpqdeploy.core.detection import Anchors, Decoding
from mpqdeploy.core.letterbox import GREY
from mpqdeploy.export.manifest import Manifest, TensorInfo
from mpqdeploy.loading import Model
from tests.core.test_detection import outputs_for
from tests.export.bundles import REQUIREMENTS

PYRAMID = Anchors(image=(64, 64), strides=(8, 16))
TRUTH = np.array([[8, 16, 40, 48]], np.float32)  # in pixels of the letterboxed image
NAMES = ("class_p3", "class_p4", "box_p3", "box_p4")


class Oracle:
    """A compiled library that sees one box in whatever it is given, and keeps the input."""

    def __init__(self) -> None:
        self.seen: list[NDArray[np.float32]] = []

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        self.seen.append(inputs["input"])
        return dict(zip(NAMES, outputs_for(PYRAMID, TRUTH, [1], 2), strict=True))


def manifest() -> Manifest:
    entry = TensorInfo(
        name="input",
        shape=(1, 3, 64, 64),
        layout="NCHW",
        preprocessing=Preprocessing(scale=1.0, mean=(0.0,) * 3, std=(1.0,) * 3),
    )
    outputs = zip(NAMES, outputs_for(PYRAMID, TRUTH, [1], 2), strict=True)
    return Manifest(
        name="oracle",
        inputs=(entry,),
        outputs=tuple(TensorInfo(name=n, shape=o.shape, layout="NCHW") for n, o in outputs),
        requirements=REQUIREMENTS,
        versions={},
        decoding=Decoding(anchors=PYRAMID, classes=("cat", "dog")),
    )


def test_boxes_come_back_in_the_images_own_pixels() -> None:
    """An image of 128 x 64 fills the canvas' width: scale 1/2, 16 grey rows above."""
    library = Oracle()
    model = Model(manifest(), library)
    image = np.full((64, 128, 3), 7, np.uint8)
    found = model.detect(image).at_least(0.85)
    assert [model.classes[label] for label in found.labels] == ["dog"]
    np.testing.assert_allclose(found.boxes, [[16, 0, 80, 64]], atol=0.01)
    canvas = library.seen[0][0]
    assert (canvas[:, :16] == GREY).all()
    assert (canvas[:, 16:48] == 7).all()
    assert (canvas[:, 48:] == GREY).all()


def test_the_manifest_keeps_how_to_decode() -> None:
    made = manifest()
    again = Manifest.from_json(made.to_json())
    assert again.decoding == made.decoding
    assert Manifest.from_json(replace(made, decoding=None).to_json()).decoding is None


@pytest.mark.parametrize(
    "image",
    [np.zeros((3, 64, 64), np.uint8), np.zeros((64, 64, 3)), np.zeros((0, 4, 3), np.uint8)],
)
def test_what_is_no_image_is_refused(image: NDArray[Any]) -> None:
    with pytest.raises(ModelError, match=r"uint8 \[H, W, 3\]"):
        Model(manifest(), Oracle()).detect(image)


def test_a_classifier_is_no_detector() -> None:
    model = Model(replace(manifest(), decoding=None), Oracle())
    with pytest.raises(ModelError, match="'oracle' is no detector"):
        model.detect(np.zeros((8, 8, 3), np.uint8))
