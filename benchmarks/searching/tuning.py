"""Fine-tuning: every policy from the same float weights, by the same recipe, on the same images."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from mpqdeploy.core import Policy
from mpqdeploy.core.files import read_json, write_json
from mpqdeploy.data import Loader, Split
from mpqdeploy.nn.training import Progress, Recipe, evaluate, train
from mpqdeploy.search.trials import quantized
from mpqdeploy.ui import Ui
from searching.digests import digest
from searching.setting import Setting


@dataclass(frozen=True)
class Tuning:
    """Test accuracies of `setting`'s policies after `recipe`; what was trained lies in `folder`.

    `split` is what is trained on: `fit`, all training images, or `search`, a fifth of them. What a
    search left in the weights has no part in it: only the policies differ.
    """

    setting: Setting
    recipe: Recipe
    split: Split
    folder: Path
    ui: Ui

    @property
    def epochs(self) -> float:
        """Passes over all training images."""
        data = self.setting.dataset
        return round(self.recipe.epochs * data.size(self.split) / data.size("fit"), 2)

    def accuracy(self, policy: Policy) -> float:
        """Top-1 on the test images, trained for once."""
        name = f"{digest(policy.to_json())}-{self._digest}"
        file = self.folder / f"{name}.json"
        if not file.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            state = self.folder / f"{name}.pt"
            accuracy = self._trained(policy, state)
            write_json(file, {"policy": policy.to_json(), "test_accuracy": accuracy})
            state.unlink(missing_ok=True)
        return float(read_json(file)["test_accuracy"])

    @property
    def _digest(self) -> str:
        return digest([asdict(self.recipe), self.split])

    def _trained(self, policy: Policy, state: Path) -> float:
        given, recipe = self.setting, self.recipe
        net = quantized(given.problem(), policy)
        loader = Loader.training(given.dataset, self.split, batch_size=recipe.batch_size)
        train(net, loader, recipe, checkpoint=state, on_epoch=self._show, device=given.device)
        return evaluate(net, Loader(given.dataset, "test", batch_size=250), device=given.device)

    def _show(self, done: Progress) -> None:
        self.ui.note(
            f"  fine-tuning epoch {done.epoch}/{done.epochs}: loss {done.loss:.3f}, "
            f"{done.images_per_second:.0f} images/s"
        )
