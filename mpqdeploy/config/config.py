"""`Config`: everything that a run is told, read from a YAML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from mpqdeploy.config.explain import explain
from mpqdeploy.config.sections import (
    BudgetSection,
    DataSection,
    FinetuneSection,
    LogSection,
    MeasureSection,
    ModelSection,
    RefitSection,
    SearchSection,
    TargetSection,
    TrainSection,
)
from mpqdeploy.config.types import PrecisionText, Section
from mpqdeploy.config.yaml_file import apply_override, read_yaml
from mpqdeploy.core import Precision, parse_precisions


class Config(Section):
    """A run's configuration. Relative paths are relative to the current directory.

    `precisions` are the candidates of every site that is not pinned, null for the target's own.
    `budgets` hold together. `baselines` are uniform precisions to compare with. `device` is where
    torch trains: auto, cpu or cuda.
    """

    model: ModelSection
    data: DataSection
    target: TargetSection = TargetSection()
    precisions: tuple[PrecisionText, ...] | None = None
    budgets: tuple[BudgetSection, ...] = (BudgetSection(metric="latency", limit="75%"),)
    train: TrainSection = TrainSection()
    search: SearchSection = SearchSection()
    finetune: FinetuneSection = FinetuneSection()
    refit: RefitSection = RefitSection()
    log: LogSection = LogSection()
    measure: MeasureSection = MeasureSection()
    baselines: tuple[PrecisionText, ...] = ("8/8", "4/4", "2/2")
    seed: int = 0
    device: str = "auto"
    run_dir: Path = Path("runs/run")

    @classmethod
    def load(cls, path: Path, overrides: Sequence[str] = ()) -> Self:
        """Read a YAML file, then apply `a.b=value` overrides in order.

        Raises `ConfigError` in one line: the file or `--set`, the dotted key, what is allowed.
        """
        data = read_yaml(path)
        keys = [apply_override(data, override) for override in overrides]
        return cls.read(data, str(path), keys)

    @classmethod
    def read(cls, data: dict[str, Any], source: str, overridden: Sequence[str] = ()) -> Self:
        """Validate a mapping that came from `source`. Raises `ConfigError`."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise explain(error, cls, source, overridden) from error

    def candidates(self) -> tuple[Precision, ...] | None:
        """The precisions to search over, widest first; `None` for the target's own."""
        return None if self.precisions is None else parse_precisions(self.precisions)

    def uniform_baselines(self) -> tuple[Precision, ...]:
        return parse_precisions(self.baselines)

    def part(self, *names: str) -> dict[str, Any]:
        """The named keys as JSON, for the input hash of a step that reads those alone."""
        found = self.snapshot()
        return {name: found[name] for name in names}

    def snapshot(self) -> dict[str, Any]:
        """All that decides results, as JSON: not where they go, nor who decodes images."""
        return self.model_dump(
            mode="json", exclude={"run_dir": True, "log": True, "data": {"workers": True}}
        )
