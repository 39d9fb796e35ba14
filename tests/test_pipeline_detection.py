"""`mpqdeploy run` on a detector, from drawn shapes to boxes out of the bundle."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mpqdeploy
from mpqdeploy.cli import main
from mpqdeploy.core.files import read_json
from mpqdeploy.data import DataSpec, load_dataset
from tests.test_loading import FORBIDDEN

pytestmark = pytest.mark.slow

CONFIG = """\
model: {{name: retinanet, options: {{width: 16, features: 16, depth: 1, anchor_size: 2.0}}}}
data: {{name: shapes, size: 64, limit: {{train: 64, search: 16, val: 16, test: 16}}}}
precisions: ["8/8", "4/4"]
budgets: [{{metric: bops, limit: "70%"}}]
train: {{epochs: 4, batch_size: 8, lr: 0.002, optimizer: adam, clip_norm: 10}}
search: {{mode: factorized, epochs: 2, steps: 4, batch_size: 8, val_batches: 1, lr: 0.002}}
finetune: {{epochs: 1, batch_size: 8, lr: 0.0005, optimizer: adam}}
refit: {{rounds: 1}}
measure: {{warmup: 1, samples: 5, inner: 1, store: "sqlite:///{folder}/store.sqlite"}}
baselines: []
run_dir: {folder}/run
"""


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("detector")
    config = folder / "shapes.yaml"
    config.write_text(CONFIG.format(folder=folder), encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["run", str(config), "--quiet"])
    assert ended.value.code == 0
    return folder / "run"


def test_the_bundle_says_how_to_read_its_boxes(run_dir: Path) -> None:
    manifest = mpqdeploy.load(run_dir / "bundle").manifest
    assert manifest.decoding is not None
    assert manifest.decoding.classes == ("disc", "square", "triangle")
    assert manifest.decoding.anchors.image == (64, 64)
    assert set(manifest.accuracy) == {"mAP", "float32_mAP"}
    assert manifest.certificate is not None
    assert manifest.certificate.holds
    assert {"torch", "onnxruntime", "compiled"} <= set(manifest.certificate.layers)
    assert len(manifest.outputs) == 10


def test_the_library_scores_as_torch_does(run_dir: Path) -> None:
    deployed = read_json(run_dir / "steps" / "deploy-searched-1" / "done.json")
    result = deployed["result"]
    assert result["accuracy"] == pytest.approx(result["torch_accuracy"], abs=0.02)


BLOCKED = """
import json, sys, numpy
for name in {forbidden!r}:
    sys.modules[name] = None  # tvm imports torch where it can: here it cannot
import mpqdeploy
found = mpqdeploy.load({bundle!r}).detect(numpy.load({image!r}))
print(json.dumps([len(found), found.boxes.shape[1]]))
"""


def test_an_image_is_read_where_there_is_no_torch(run_dir: Path, tmp_path: Path) -> None:
    pixels, _ = load_dataset(DataSpec(name="shapes", size=64)).examples("test", np.arange(1))
    image = tmp_path / "image.npy"
    np.save(image, pixels[0].transpose(1, 2, 0))
    code = BLOCKED.format(forbidden=FORBIDDEN, bundle=str(run_dir / "bundle"), image=str(image))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, columns = json.loads(done.stdout)
    assert columns == 4
    assert count <= 100
