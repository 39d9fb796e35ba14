"""Networks that are trained once: what came of each lies in a file, whoever asks for it again."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from searching.digests import digest

from mpqdeploy.core import Policy, Precision
from mpqdeploy.core.files import read_json, write_json
from mpqdeploy.data import Dataset, DataSpec, Split, load_dataset
from mpqdeploy.nn import ModelSpec, sites
from mpqdeploy.search.bomp.front import Pair
from mpqdeploy.search.bomp.history import History
from mpqdeploy.search.bomp.networks import Choices, Network, Networks
from mpqdeploy.search.bomp.objective import Objective
from mpqdeploy.search.bomp.parameters import Point
from mpqdeploy.search.bomp.training import Fidelity, accuracies
from mpqdeploy.search.bomp.trial import Outcome
from mpqdeploy.ui import Ui
from studying.functions import Function

# Fixed here, so that a study is of the same space on every machine.
PRECISIONS = tuple(Precision.parse(text) for text in ("8/8", "4/8", "4/4", "2/2", "1/2", "1/1"))
FRONT = Objective(kind="front", metric="bytes")

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """The networks of a family on a data set. `fidelity`: how a trial of a study trains."""

    model: str
    data: DataSpec
    choices: Choices
    fidelity: Fidelity
    folder: Path
    ui: Ui
    device: str = "cpu"

    @cached_property
    def dataset(self) -> Dataset:
        return load_dataset(self.data)

    @cached_property
    def networks(self) -> Networks:
        return Networks(self.spec, PRECISIONS, self.choices)

    @cached_property
    def spec(self) -> ModelSpec:
        return self._spec({})

    def uniform(self, precision: Precision, **options: object) -> Network:
        """The family's usual network, but for `options`, at one precision."""
        spec = self._spec(options)
        found = sites(spec)
        policy = Policy(precisions={site.name: site.pinned or precision for site in found})
        return Network(spec=spec, policy=policy, sites=found)

    def _spec(self, options: Mapping[str, object]) -> ModelSpec:
        data = self.dataset
        return ModelSpec(
            name=self.model, num_classes=len(data.classes), image=data.image, options=options
        )

    def drawn(self, seed: int, number: int) -> Point:
        """What random search proposes as its trial `number`."""
        history = History(
            space=self.networks.space, objective=FRONT, budgets=(), trials=(),
            number=number, initial=1, seed=seed,
        )  # fmt: skip
        return history.drawn()

    def trial(self, point: Point) -> Row:
        """A point as a trial has it: accuracies on the validation split."""
        return self.row(self.networks.network(point), self.fidelity, "val")

    def function(self, name: str, reference: Pair, accuracy: str = "tuned") -> Function:
        """A race for the front of accuracy and bytes; `accuracy`: which of a row's engines see."""

        def evaluate(point: Point) -> Outcome:
            row = self.trial(point)
            return Outcome(accuracy=row[accuracy], costs=row["costs"], seconds=row["seconds"])

        return Function(
            name=name,
            space=self.networks.space,
            evaluate=evaluate,
            objective=FRONT,
            reference=reference,
        )

    def row(self, network: Network, fidelity: Fidelity, split: Split) -> Row:
        """`float32`, `quantized` and `tuned` accuracy on `split`, `costs` and `seconds`.

        Raises `TrainingError` where training diverges.
        """
        recipe, shape = self._recipe(fidelity), digest(dict(network.spec.options))
        bits = digest(network.policy.to_json())
        file = self.folder / f"{self.model}-{recipe}-{split}" / f"{shape}-{bits}.json"
        if not file.exists():
            scratch = self.folder / f"training-{self.model}-{recipe}-{shape}"
            write_json(file, self._train(network, fidelity, split, scratch))
        row: Row = read_json(file)
        return row

    def _recipe(self, fidelity: Fidelity) -> str:
        # Where the data lie makes no difference.
        return digest([asdict(fidelity), asdict(replace(self.data, dir=None))])

    def _train(self, network: Network, fidelity: Fidelity, split: Split, scratch: Path) -> Row:
        began = time.perf_counter()
        # What the last network's training in float left serves others of the same shape.
        for other in self.folder.glob("training-*"):
            if other != scratch:
                shutil.rmtree(other)
        found = accuracies(
            network, self.dataset, fidelity, scratch, device=self.device, split=split
        )
        (scratch / "qaft.pt").unlink(missing_ok=True)
        seconds, size = time.perf_counter() - began, network.counted["bytes"]
        self.ui.note(f"  trained: {100 * found.tuned:.1f} %, {size:.0f} B, {seconds:.0f} s")
        return {"costs": network.counted, **found.to_json(), "seconds": seconds}
