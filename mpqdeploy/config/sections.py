"""The sections of a configuration file, one model each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from mpqdeploy.config.bomp import BompSection
from mpqdeploy.config.limit import Limit
from mpqdeploy.config.types import Count, Natural, NotNegative, PrecisionText, Rate, Section, Share
from mpqdeploy.core import Metric, Precision, Protocol, UserError

if TYPE_CHECKING:
    from mpqdeploy.data import DataSpec
    from mpqdeploy.nn import ModelSpec
    from mpqdeploy.nn.training import Recipe
    from mpqdeploy.search.settings import BpNasSettings


class ModelSection(Section):
    """Which network. `pins` fixes sites (`conv1: 8/8`); `options` are the model's own; `backbone`
    are a classifier's weights for a detector to start from."""

    name: Literal[
        "digits_cnn",
        "mobile_cifar",
        "mobile_digits",
        "mobilenetv2",
        "resnet18",
        "resnet20",
        "resnet50",
        "retinanet",
    ]
    checkpoint: Path | None = None
    backbone: Path | None = None
    pins: dict[str, PrecisionText] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)

    def spec(self, num_classes: int, image: tuple[int, int, int]) -> ModelSpec:
        from mpqdeploy.nn import ModelSpec

        return ModelSpec(name=self.name, num_classes=num_classes, image=image, options=self.options)

    def pinned(self) -> dict[str, Precision]:
        return {site: Precision.parse(text) for site, text in self.pins.items()}


class SplitLimits(Section):
    """Most images per split, for quick runs."""

    train: Count | None = None
    search: Count | None = None
    val: Count | None = None
    test: Count | None = None


class DataSection(Section):
    """Which data set, where it lies, how it is cut; see `mpqdeploy.data.DataSpec`."""

    name: Literal["digits", "cifar10", "cifar100", "imagefolder", "coco", "shapes"]
    dir: Path | None = None
    limit: SplitLimits = SplitLimits()
    search_fraction: Share = 0.2
    val_fraction: Share = 0.1
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    size: Count = 224
    resize: Count | None = None
    jitter: Share = 0.0
    workers: Natural | None = None
    shuffle_seed: int = 0

    def spec(self) -> DataSpec:
        from mpqdeploy.data import DataSpec

        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return DataSpec(**{**fields, "limit": self.limit.model_dump(exclude_none=True)})


class TargetSection(Section):
    """Which machine to deploy to, by name, and with how many threads."""

    name: str = "host"
    threads: Count = 1


class BudgetSection(Section):
    """One limit: a number with a unit, or a percentage of the uniform 8/8 network."""

    metric: Metric
    limit: float | str

    @model_validator(mode="after")
    def _readable(self) -> Self:
        try:
            self.parsed()
        except UserError as error:
            raise ValueError(str(error)) from error
        return self

    def parsed(self) -> Limit:
        return Limit.parse(self.metric, self.limit)


class TrainSection(Section):
    """Float pre-training; see `mpqdeploy.nn.training.Recipe`. 0 epochs: none."""

    epochs: Natural = 20
    batch_size: Count = 128
    lr: Rate = 0.1
    optimizer: Literal["sgd", "adam"] = "sgd"
    momentum: Share = 0.9
    weight_decay: NotNegative = 5e-4
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_epochs: NotNegative = 0.0
    final_lr_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0
    label_smoothing: Share = 0.0
    clip_norm: Rate | None = None
    amp: Literal["auto", "bfloat16", "float16", "off"] = "auto"

    def recipe(self) -> Recipe:
        from mpqdeploy.nn.training import Recipe

        return Recipe(**self.model_dump())


class FinetuneSection(TrainSection):
    """Quantization-aware training of the searched network and of the uniform baselines."""

    epochs: Natural = 10
    lr: Rate = 0.02
    weight_decay: NotNegative = 1e-4


class SearchSection(Section):
    """Which engine, and the engines' settings; see `mpqdeploy.search.BpNasSettings`.

    `study` is where bomp-nas keeps its trials: a journal file's path or a database's URL, the run
    folder's own if null; `study_name` tells several studies there apart.
    """

    engine: Literal["bp-nas", "bomp-nas", "penalty", "sensitivity", "uniform", "random"] = "bp-nas"
    study: str | None = None
    study_name: str | None = None
    bomp: BompSection = BompSection()
    mode: Literal["joint", "factorized"] = "joint"
    epochs: Count = 10
    refit_epochs: Count = 4
    steps: Count | None = None
    theta_every: Count = 1
    batch_size: Count = 64
    lr: Rate = 0.02
    final_lr_ratio: Annotated[float, Field(ge=0, le=1)] = 0.1
    momentum: Share = 0.9
    weight_decay: NotNegative = 1e-4
    reshape: bool = True
    theta_lr: Rate = 0.05
    barrier: Literal["double_log", "log"] = "double_log"
    barrier_weight: Rate = 0.01
    prob1_weight: Rate = 1.0
    warmup: Share = 0.3
    one_hot: Annotated[float, Field(gt=0, lt=1)] = 0.99
    adapt: Share = 0.2
    spend: bool = True
    reopen: Annotated[float, Field(gt=0, lt=1)] = 0.7
    amp: Literal["auto", "bfloat16", "float16", "off"] = "auto"
    val_batches: Count = 8
    calibration_batches: Count = 4
    penalty_weight: Rate = 0.01
    penalty_searches: Count = 8
    sensitivity: Literal["hessian", "fisher"] = "hessian"
    sensitivity_images: Count = 256
    sensitivity_probes: Count = 8
    exclude: dict[str, tuple[PrecisionText, ...]] = Field(default_factory=dict)

    def excluded(self) -> dict[str, tuple[Precision, ...]]:
        """Precisions that a site must not take, by its name."""
        return {site: tuple(map(Precision.parse, texts)) for site, texts in self.exclude.items()}

    def settings(self) -> BpNasSettings:
        """Of the supernet's search: BP-NAS' own, and those of the penalty."""
        from dataclasses import fields

        from mpqdeploy.search.settings import BpNasSettings

        return BpNasSettings(**self.model_dump(include={f.name for f in fields(BpNasSettings)}))


class LogSection(Section):
    """Where a search shows its epochs besides the terminal and the report.

    `tensorboard`: event files in the run folder. `mlflow`: address of a tracking server.
    """

    tensorboard: bool = False
    mlflow: str | None = None


class RefitSection(Section):
    """At most so many rounds of measuring, correcting the prediction and searching on."""

    rounds: Count = 4


class MeasureSection(Section):
    """How latencies are taken. `store`: database URL of the records, the user's own if null."""

    warmup: Natural = 10
    samples: Annotated[int, Field(ge=5, strict=True)] = 30
    inner: Count = 10
    store: str | None = None

    def protocol(self, threads: int) -> Protocol:
        return Protocol(warmup=self.warmup, samples=self.samples, inner=self.inner, threads=threads)
