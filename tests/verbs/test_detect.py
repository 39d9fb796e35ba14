from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpqdeploy.core import DataError
from mpqdeploy.core.detection import Detections
from mpqdeploy.loading import Model
from mpqdeploy.ui import Ui
from mpqdeploy.verbs import detect as verb
from tests.test_detecting import Oracle, manifest


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose bundle is an oracle's."""
    monkeypatch.setattr(verb, "load", lambda folder: Model(manifest(), Oracle()))
    return tmp_path / "bundle"


def test_boxes_are_drawn_where_they_are(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "image.png", tmp_path / "out" / "boxes.png"
    Image.new("RGB", (128, 64), (9, 9, 9)).save(source)
    verb.detect_objects(bundle, source, out, 0.5, Ui(as_json=True))
    (found,) = json.loads(capsys.readouterr().out)["objects"]
    assert found["class"] == "dog"
    assert found["box"] == pytest.approx([16, 0, 80, 64], abs=0.01)
    drawn = np.asarray(Image.open(out))
    changed = (drawn != 9).any(-1)
    assert changed[40, 16]
    assert changed[40, 80]
    assert not changed[40, 20:76].any()
    assert not changed[:, 100:].any()


def test_every_class_has_a_colour(tmp_path: Path) -> None:
    boxes = np.array([[0, 20, 20, 60], [30, 20, 50, 60]], np.float32)
    found = Detections(boxes=boxes, scores=np.ones(2, np.float32), labels=np.array([0, 1]))
    picture = Image.new("RGB", (64, 64))
    verb.draw(picture, found, ["a", "b"])
    assert picture.getpixel((0, 50)) != picture.getpixel((30, 50))


def test_an_image_that_cannot_be_read(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "image.jpg").write_bytes(b"nothing")
    for name in ("image.jpg", "gone.png"):
        with pytest.raises(DataError, match=name):
            verb.detect_objects(bundle, tmp_path / name, None, 0.5, Ui(quiet=True))
