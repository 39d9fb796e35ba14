from __future__ import annotations

from pathlib import Path

import pytest

from mpqdeploy.config import Config
from mpqdeploy.nn import MODELS
from mpqdeploy.pipeline import run
from mpqdeploy.ui import Ui
from tests.data.files import write_image_folder

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.yaml"))
IMAGENET = [path for path in EXAMPLES if "imagenet" in path.name]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_valid(path: Path) -> None:
    config = Config.load(path)
    config.candidates()
    for section in config.budgets:
        section.parsed()
    config.train.recipe()
    config.search.settings()
    assert config.model.name in MODELS
    assert config.run_dir == Path("runs") / path.stem


@pytest.mark.parametrize(
    "path", [p for p in EXAMPLES if "imagenet" in p.name], ids=lambda p: p.name
)
def test_imagenet_recipes_plan(
    path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = Config.load(path, [f"data.dir={images}"])
    assert run(config, fresh=False, dry_run=True, ui=Ui()) is None
    assert config.model.name in capsys.readouterr().out
    assert not config.run_dir.exists()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ImageNet's layout, with enough images for the recipes' splits."""
    return write_image_folder(tmp_path_factory.mktemp("imagenet"), classes=2, count=60)
