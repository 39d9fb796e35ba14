"""What `prepare` finds out before a run begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpqdeploy.config import Config
from mpqdeploy.core import CheckpointError, ConfigError
from mpqdeploy.run_folder import RunFolder
from mpqdeploy.steps.context import Context, prepare
from mpqdeploy.ui import Ui
from tests.data.coco_files import content, write_annotations, write_coco

TINY = {"name": "retinanet", "options": {"width": 8, "features": 8, "depth": 1}}
SHAPES = {"name": "shapes", "size": 64}


def prepared(tmp_path: Path, ui: Ui | None = None, **sections: object) -> Context:
    config = Config.read({"model": TINY, "data": SHAPES, **sections}, "test")
    return prepare(config, RunFolder(tmp_path / "run"), ui or Ui(quiet=True))


def test_the_task_is_the_models(tmp_path: Path) -> None:
    context = prepared(tmp_path)
    assert context.task.metric == "mAP"
    assert context.task.outputs[0] == "class_p3"
    assert context.test_batches().batch_size == context.task.evaluation_batch
    digits = prepared(tmp_path, model={"name": "digits_cnn"}, data={"name": "digits"})
    assert digits.task.metric == "top-1"


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"data": {"name": "digits"}}, "'retinanet' is for detection, data set 'digits' is for"),
        ({"model": {"name": "resnet20"}}, "'resnet20' is for classification"),
        ({"train": {"label_smoothing": 0.1}}, r"train\.label_smoothing"),
        ({"data": {"name": "shapes", "size": 100}}, "multiples of 32"),
    ],
)
def test_what_does_not_fit_together(
    tmp_path: Path, sections: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        prepared(tmp_path, **sections)


def test_what_was_put_right_in_the_data_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_coco(tmp_path)
    data = content(20)
    data["annotations"][3]["bbox"] = [3, 3, 0, 10]
    write_annotations(tmp_path, "train2017", data)
    prepared(tmp_path, Ui(), data={"name": "coco", "dir": str(tmp_path), "size": 64})
    assert "1 boxes have no area" in " ".join(capsys.readouterr().err.split())


def test_files_to_start_from(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone.pth")
    for key in ("checkpoint", "backbone"):
        with pytest.raises(CheckpointError, match=rf"gone\.pth.*model\.{key}"):
            prepared(tmp_path, model={**TINY, key: gone})
    with pytest.raises(ConfigError, match="both given"):
        prepared(tmp_path, model={**TINY, "checkpoint": gone, "backbone": gone})
