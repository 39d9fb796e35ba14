"""A further engine is one file: the how-to's own, as it stands there."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mpqdeploy.config import Config
from mpqdeploy.search.bomp import engines
from mpqdeploy.search.bomp.study import Study, StudySettings
from tests.search.bomp.problems import BYTES, LAYERED, formula, history_of

PAGE = Path(__file__).parents[3] / "docs/how-to/search-architectures.md"
SETTINGS = StudySettings(engine="climb", trials=12, initial=3)


@pytest.fixture
def climb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """`climb.py` of the how-to, in a folder that stands in for a writable `engines/`."""
    page = PAGE.read_text(encoding="utf-8")
    found = re.search(r"```python\n(# search/bomp/engines/climb\.py\n.*?)```", page, re.S)
    assert found is not None
    file = tmp_path / "engines" / "climb.py"
    file.parent.mkdir()
    file.write_text(found[1], encoding="utf-8")
    monkeypatch.setattr(engines, "__path__", [*engines.__path__, str(file.parent)])
    yield file
    sys.modules.pop(f"{engines.__name__}.climb", None)


def test_the_file_is_all_that_a_study_needs(climb: Path, tmp_path: Path) -> None:
    assert "climb" in engines.engines()
    study = Study.open(str(tmp_path / "journal"), "test", LAYERED, (BYTES,), SETTINGS)
    study.run(lambda point, number: formula(point))
    trials = study.trials()
    assert [trial.number for trial in trials] == list(range(12))
    assert len({LAYERED.key(trial.point) for trial in trials}) == 12
    # It is this engine that proposed them.
    for number in range(SETTINGS.initial, 12):
        history = history_of(trials[:number], initial=SETTINGS.initial)
        assert engines.load_engine("climb").propose(history) == trials[number].point


def test_a_configuration_names_it(climb: Path) -> None:
    values = {
        "model": {"name": "mobile_digits"},
        "data": {"name": "digits"},
        "search": {"engine": "bomp-nas", "bomp": {"sampler": "climb"}},
    }
    settings = Config.read(values, "test").search.bomp.settings(seed=0)
    assert engines.load_engine(settings.engine).propose is not None
