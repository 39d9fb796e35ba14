from __future__ import annotations

from pathlib import Path

import pytest

from mpqdeploy.config import Config
from mpqdeploy.nn import MODELS

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.yaml"))


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
