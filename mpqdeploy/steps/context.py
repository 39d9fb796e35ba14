"""`Context`: what every step of a run works with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from mpqdeploy.config import Config
from mpqdeploy.core import (
    Budget,
    CheckpointError,
    ConfigError,
    CostTable,
    DataError,
    Fingerprint,
    Policy,
    Precision,
    Protocol,
    Site,
    bops_table,
    bytes_table,
)
from mpqdeploy.data import Dataset, Loader, load_dataset
from mpqdeploy.nn import (
    CLASSIFICATION,
    MODELS,
    ModelSpec,
    Task,
    build_float,
    load_backbone,
    load_checkpoint,
    sites,
    task_of,
)
from mpqdeploy.nn.training import ALONE, World
from mpqdeploy.provenance import measurements
from mpqdeploy.run_folder import RunFolder
from mpqdeploy.search.reach import check_reachable
from mpqdeploy.search.space import search_space
from mpqdeploy.targets.fingerprint import host_fingerprint
from mpqdeploy.targets.passes.select import Measured
from mpqdeploy.targets.records import RecordStore
from mpqdeploy.targets.target import Target, load_target
from mpqdeploy.tracking import check_trackers
from mpqdeploy.ui import Ui

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mpqdeploy.config.sections import ModelSection

WIDEST = Precision(weight_bits=8, act_bits=8)
REFERENCE = f"uniform {WIDEST}"


@dataclass(frozen=True)
class Context:
    """A configuration with everything that it names, loaded and checked."""

    config: Config
    folder: RunFolder
    ui: Ui
    dataset: Dataset
    spec: ModelSpec
    sites: tuple[Site, ...]
    target: Target
    world: World = ALONE

    @cached_property
    def store(self) -> RecordStore:
        return RecordStore(self.config.measure.store)

    @cached_property
    def fingerprint(self) -> Fingerprint:
        return host_fingerprint()

    @cached_property
    def task(self) -> Task:
        """What the model is for."""
        import torch

        with torch.device("meta"):
            return task_of(build_float(self.spec))

    @property
    def protocol(self) -> Protocol:
        return self.config.measure.protocol(self.target.threads)

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """Candidates of the sites that are not pinned; 8/8 is always one, as the reference."""
        chosen = self.config.candidates() or self.target.precisions
        return tuple(sorted({*chosen, WIDEST}, reverse=True))

    @property
    def candidates(self) -> Mapping[str, tuple[Precision, ...]]:
        """Per site; raises `ConfigError` for exclusions that leave nothing, as `prepare` does."""
        return search_space(self.sites, self.precisions, self.config.search.excluded())

    @property
    def counted(self) -> Mapping[str, CostTable]:
        """The tables that need no measurement."""
        wide = tuple({*self.precisions, *self.config.uniform_baselines()})
        return {"bops": bops_table(self.sites, wide), "bytes": bytes_table(self.sites, wide)}

    def about(self, spec: ModelSpec, found: tuple[Site, ...]) -> Context:
        """The same run, where a step is to work with another network than the configured one."""
        return replace(self, spec=spec, sites=found)

    def uniform(self, precision: Precision) -> Policy:
        return Policy.uniform(self.sites, precision)

    def measured(self) -> Measured:
        """Looks up the fastest kernel of a layer among this machine's records."""
        return measurements(self.target, self.store)

    def resolve(self, uniform: Mapping[str, float]) -> tuple[Budget, ...]:
        """The budgets in their units; `uniform` has the uniform 8/8 network's cost by metric."""
        parsed = [section.parsed() for section in self.config.budgets]
        return tuple(limit.resolve(uniform[limit.metric]) for limit in parsed)

    def training_images(self, batches: int, batch_size: int = 64) -> list[Tensor]:
        """The first batches of the shuffled training split, not augmented: for calibration."""
        loader = Loader(
            self.dataset, "train", batch_size=batch_size, shuffle=True, seed=self.config.seed
        )
        return [images for (images, _), _ in zip(loader, range(batches), strict=False)]

    def test_batches(self) -> Loader:
        return Loader(self.dataset, "test", batch_size=self.task.evaluation_batch)


def prepare(config: Config, folder: RunFolder, ui: Ui, world: World = ALONE) -> Context:
    """Load and check what `config` names, before anything is written.

    Raises the `UserError` of whatever does not exist or does not fit: data, model, checkpoint,
    pinned sites, target.
    """
    target = load_target(config.target.name, config.target.threads)
    target.require_here()
    check_trackers(config.log)
    dataset = load_dataset(config.data.spec())
    spec = config.model.spec(len(dataset.classes), dataset.image)
    _check_task(config, spec, dataset)
    for note in dataset.notes:
        ui.warn(note)
    found = sites(spec, pins=config.model.pinned())
    if dataset.size("test") == 0:
        raise DataError(
            f"data set {dataset.name!r} has no test images.", hint="Check data.dir and data.limit."
        )
    if config.model.checkpoint is not None or config.model.backbone is not None:
        # Whether the file fits, before a run works for minutes to find out.
        load_start(build_float(spec), config.model)
    context = Context(
        config=config,
        folder=folder,
        ui=ui,
        dataset=dataset,
        spec=spec,
        sites=found,
        target=target,
        world=world,
    )
    if config.search.engine != "bomp-nas":  # whose networks may be smaller than this one
        _check_counted_budgets(context)
    return context


def _check_task(config: Config, spec: ModelSpec, dataset: Dataset) -> None:
    """Whether model, data and training settings are for the same task."""
    kind = getattr(MODELS[spec.name], "kind", CLASSIFICATION.kind)
    if kind != dataset.kind:
        raise ConfigError(
            f"model {spec.name!r} is for {kind}, data set {dataset.name!r} is for {dataset.kind}.",
            hint="Detectors take coco and shapes, classifiers the other data sets.",
        )
    for name, section in (("train", config.train), ("finetune", config.finetune)):
        if kind == "detection" and section.label_smoothing:
            raise ConfigError(
                f"{name}.label_smoothing: {section.label_smoothing} is for classifiers.",
                hint="Leave it out: a detector's focal loss has no place for it.",
            )


def _check_counted_budgets(context: Context) -> None:
    """Whether the budgets that need no measurement can be met: raises `BudgetError` if not."""
    wide = context.uniform(WIDEST)
    counted = context.counted
    parsed = [section.parsed() for section in context.config.budgets]
    budgets = [
        limit.resolve(counted[limit.metric].of(wide)) for limit in parsed if limit.metric in counted
    ]
    check_reachable(counted, budgets, context.candidates)


def load_start(net: nn.Module, model: ModelSection) -> None:
    """The weights that `model` names for the float network, or its backbone, to start from.

    Raises `CheckpointError` for a file that is missing or does not fit, `ConfigError` for two.
    """
    if model.checkpoint is not None and model.backbone is not None:
        raise ConfigError(
            "model.checkpoint and model.backbone are both given.", hint="Leave one of them out."
        )
    for name, path, load in (
        ("checkpoint", model.checkpoint, load_checkpoint),
        ("backbone", model.backbone, load_backbone),
    ):
        if path is not None:
            if not path.is_file():
                raise CheckpointError(
                    f"{path}: there is no such file.", hint=f"Check model.{name}."
                )
            load(net, path)
