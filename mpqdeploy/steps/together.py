"""Work that every process of a run takes part in.

The leader runs the pipeline: it alone writes, compiles, measures and prints. Whenever something is
trained, it tells the others what, and they do the same on their part of every batch.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mpqdeploy.config import Config
from mpqdeploy.core import Policy
from mpqdeploy.data import Dataset, Loader, load_dataset
from mpqdeploy.nn import ModelSpec, build_float, build_quantized, scale_clip_
from mpqdeploy.nn.training import Recipe, TrainingError, World, train
from mpqdeploy.nn.training.loop import OnProgress
from mpqdeploy.search.engine import OnEvent, Problem, Result
from mpqdeploy.steps.engine import make_engine

if TYPE_CHECKING:
    from torch import nn

_OWN = ("dataset", "world", "checkpoint")
"""Fields of a problem that every process has for itself."""


class Place(Protocol):
    """What training needs of a run: a `Context` has it, and so has a `Follower`."""

    @property
    def config(self) -> Config: ...
    @property
    def dataset(self) -> Dataset: ...
    @property
    def spec(self) -> ModelSpec: ...
    @property
    def world(self) -> World: ...


class Job(Protocol):
    """What the leader tells the others to take part in. It pickles."""

    def follow(self, place: Place) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Follower:
    """A process that does not lead."""

    config: Config
    dataset: Dataset
    spec: ModelSpec
    world: World


def follow(config: Config, world: World) -> None:
    """Take part in whatever the leader trains, until it says that there is no more.

    Raises the `UserError` of what this process alone meets: data that are not here, a file of its
    part that cannot be read.
    """
    dataset = load_dataset(config.data.spec())
    spec = config.model.spec(len(dataset.classes), dataset.image)
    place = Follower(config=config, dataset=dataset, spec=spec, world=world)
    while (job := world.hear()) is not None:
        try:
            job.follow(place)
        except TrainingError:
            continue  # everybody's: the leader reports it


@dataclass(frozen=True, kw_only=True)
class Training:
    """A network trained on the `fit` split: in float where `policy` is None, else at its bits.

    `policy` is in its JSON form. `reshape`: Scale-Clip after every update.
    """

    recipe: Recipe
    policy: Mapping[str, Any] | None = None
    reshape: bool = False

    def loader(self, place: Place) -> Loader:
        return Loader.training(
            place.dataset,
            "fit",
            batch_size=self.recipe.batch_size,
            seed=place.config.seed,
            shard=place.world.shard,
        )

    def lead(self, place: Place, net: nn.Module, checkpoint: Path, on_step: OnProgress) -> None:
        """Train `net` in place, together with all processes."""
        place.world.tell(self)
        self._train(place, net, checkpoint=checkpoint, on_step=on_step)

    def follow(self, place: Place) -> None:
        net = build_float(place.spec)
        if self.policy is not None:
            net = build_quantized(place.spec, Policy.from_json(self.policy))
        self._train(place, net)

    def _train(self, place: Place, net: nn.Module, **leaders: Any) -> None:
        train(
            net,
            self.loader(place),
            self.recipe,
            post_step=scale_clip_ if self.reshape else None,
            seed=place.config.seed,
            device=place.config.device,
            world=place.world,
            **leaders,
        )


@dataclass(frozen=True, kw_only=True)
class Searching:
    """A call of the search engine: the problem, and what the leader's folder held before it."""

    problem: Mapping[str, Any]
    checkpoint: bytes | None
    files: Mapping[str, bytes]

    @classmethod
    def lead(cls, place: Place, problem: Problem, folder: Path, on_event: OnEvent) -> Result:
        """Search, together with all processes."""
        if place.world.size > 1:
            place.world.tell(cls._of(problem, folder))
        return make_engine(place.config.search).search(problem, folder, on_event)

    @classmethod
    def _of(cls, problem: Problem, folder: Path) -> Searching:
        given = {f.name: getattr(problem, f.name) for f in fields(problem) if f.name not in _OWN}
        held = [path for path in folder.rglob("*") if path.is_file()]
        return cls(
            problem=given,
            checkpoint=problem.checkpoint.read_bytes() if problem.checkpoint else None,
            files={str(path.relative_to(folder)): path.read_bytes() for path in held},
        )

    def follow(self, place: Place) -> None:
        """The same search, in a folder of this process's own that nobody reads afterwards."""
        with tempfile.TemporaryDirectory(prefix="mpqdeploy-") as own:
            folder, checkpoint = Path(own) / "engine", None
            for name, content in self.files.items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            if self.checkpoint is not None:
                checkpoint = Path(own) / "float.pt"
                checkpoint.write_bytes(self.checkpoint)
            problem = Problem(
                **self.problem, dataset=place.dataset, world=place.world, checkpoint=checkpoint
            )
            make_engine(place.config.search).search(problem, folder)
