"""The sections of bomp-nas: its study, and the space that it searches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, model_validator

from mpqdeploy.config.types import Count, Natural, NotNegative, Rate, Section
from mpqdeploy.core import Metric

if TYPE_CHECKING:
    from mpqdeploy.search.bomp import StudySettings
    from mpqdeploy.search.bomp.networks import Choices

Number = TypeVar("Number", int, float)


def _rising(values: tuple[Number, ...]) -> tuple[Number, ...]:
    if not values or len(set(values)) < len(values):
        raise ValueError(f"{list(values)} is empty or has a value twice.")
    return tuple(sorted(values))


Rising = AfterValidator(_rising)


class SpaceSection(Section):
    """What bomp-nas may build; see `mpqdeploy.search.bomp.networks.Choices`."""

    kernels: Annotated[tuple[Literal[1, 3, 5, 7], ...], Rising] = (3, 5)
    widths: Annotated[tuple[Rate, ...], Rising] = (0.5, 1.0, 1.5)
    expansions: Annotated[tuple[Count, ...], Rising] = (1, 2, 3, 4, 6)
    repeats: Annotated[tuple[Natural, ...], Rising] = (0, 1, 2, 3, 4)
    head_widths: Annotated[tuple[Rate, ...], Rising] = (0.25, 0.5, 1.0)

    def choices(self) -> Choices:
        from mpqdeploy.search.bomp.networks import Choices

        return Choices(**self.model_dump())


class BompSection(Section):
    """BOMP-NAS: its study, and how long a trial trains; see `mpqdeploy.search.bomp`.

    A trial trains as `train` and `finetune` say, but for the epochs. `front` is the cost that
    accuracy is drawn against, and that the Pareto networks are taken from.
    """

    sampler: str = "bo"
    trials: Count = 100
    initial: Count = 10
    epochs: Count = 20
    qaft_epochs: Natural = 1
    objective: Literal["budget", "score", "front"] = "budget"
    front: Metric = "latency"
    accuracy_reference: Annotated[float, Field(gt=0, le=1)] = 0.9
    cost_reference: Annotated[float, Field(gt=1)] | None = None
    cost_weight: NotNegative = 1.0
    pareto: Count = 4
    overlap: bool = True
    space: SpaceSection = SpaceSection()

    @model_validator(mode="after")
    def _has_reference(self) -> Self:
        if self.objective == "score" and self.cost_reference is None:
            raise ValueError("the objective score needs cost_reference, in the unit of front.")
        return self

    def settings(self, seed: int) -> StudySettings:
        from mpqdeploy.search.bomp import Score, StudySettings

        score = None
        if self.objective == "score" and self.cost_reference is not None:
            score = Score(
                metric=self.front,
                accuracy_reference=self.accuracy_reference,
                cost_reference=self.cost_reference,
                weight=self.cost_weight,
            )
        metric = self.front if self.objective == "front" else None
        alike = self.model_dump(include={"trials", "initial", "objective", "overlap"})
        return StudySettings(engine=self.sampler, seed=seed, score=score, metric=metric, **alike)
