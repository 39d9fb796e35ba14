"""`mpqdeploy detect`: run a detector's bundle on an image, and draw what it finds."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mpqdeploy.core import DataError, UserError
from mpqdeploy.core.detection import Detections
from mpqdeploy.core.files import replacing
from mpqdeploy.loading import load
from mpqdeploy.ui import Ui

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_GOLDEN = 0.618  # steps of it around the colour circle stay apart


def detect_objects(bundle: Path, image: Path, out: Path | None, score: float, ui: Ui) -> None:
    """Print the objects of at least `score`, and draw them into `out`, a PNG.

    Raises `BundleError`, `TargetError`, `ModelError` for a bundle that is no detector, `DataError`
    for an image that cannot be read.
    """
    model = load(bundle)
    picture = _opened(image)
    with ui.step(f"detecting in {image.name}"):
        found = model.detect(np.asarray(picture)).at_least(score)
    names = [model.classes[label] for label in found.labels]
    if out is not None:
        draw(picture, found, names)
        with replacing(out) as temporary:
            picture.save(temporary, format="PNG")
    ui.result(
        {
            "image": str(image),
            "out": str(out) if out else None,
            "objects": [
                {"class": name, "score": float(value), "box": [float(x) for x in box]}
                for name, value, box in zip(names, found.scores, found.boxes, strict=True)
            ],
        }
    )
    rows = [
        [name, f"{value:.2f}", *(f"{x:.0f}" for x in box)]
        for name, value, box in zip(names, found.scores, found.boxes, strict=True)
    ]
    ui.table(str(image), ["class", "score", "left", "top", "right", "bottom"], rows)
    ui.say(f"{len(found)} objects of score {score:g} or more" + (f"; wrote {out}" if out else ""))


def draw(picture: Picture, found: Detections, names: Sequence[str]) -> None:
    """Boxes with class and score, in place; a colour per class."""
    from PIL import ImageDraw

    canvas = ImageDraw.Draw(picture)
    width = max(1, round(min(picture.size) / 240))
    # The best last, so that they lie on top.
    for index in reversed(range(len(found))):
        left, top, right, bottom = (float(x) for x in found.boxes[index])
        colour = _colour(int(found.labels[index]))
        canvas.rectangle((left, top, right, bottom), outline=colour, width=width)
        text = f"{names[index]} {found.scores[index]:.2f}"
        ends = canvas.textbbox((left, max(top - 12, 0)), text)
        canvas.rectangle(ends, fill=colour)
        canvas.text((left, max(top - 12, 0)), text, fill="black")


def _opened(path: Path) -> Picture:
    try:
        from PIL import Image
    except ImportError as error:
        raise UserError(
            "Pillow is not installed, and images are read by it.", hint="pip install pillow"
        ) from error
    try:
        with Image.open(path) as source:
            return source.convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(
            f"{path}: cannot be read as an image ({error}).", hint="Give a JPEG or PNG."
        ) from error


def _colour(label: int) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(label * _GOLDEN % 1, 0.75, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)
