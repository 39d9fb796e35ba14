"""Fine-tuning: every policy from the same float weights, by the same recipe."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from mpqdeploy.core import Policy
from mpqdeploy.core.files import read_json, write_json
from mpqdeploy.data import Loader
from mpqdeploy.nn.training import Progress, Recipe, evaluate, train
from mpqdeploy.search.trials import quantized
from mpqdeploy.ui import Ui
from searching.digests import digest
from searching.setting import Setting


def tuned_accuracy(
    setting: Setting, policy: Policy, recipe: Recipe, folder: Path, ui: Ui, *, seed: int = 0
) -> float:
    """Test accuracy of `policy` on the setting's checkpoint after `recipe`; kept in `folder`.

    What a search left in the weights has no part in it: only the policies differ.
    """
    name = f"{digest(policy.to_json())}-{digest([asdict(recipe), seed])}"
    file = folder / f"{name}.json"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        state = folder / f"{name}.pt"
        accuracy = _tuned(setting, policy, recipe, state, ui, seed)
        write_json(file, {"policy": policy.to_json(), "test_accuracy": accuracy})
        state.unlink(missing_ok=True)
    return float(read_json(file)["test_accuracy"])


def _tuned(
    setting: Setting, policy: Policy, recipe: Recipe, state: Path, ui: Ui, seed: int
) -> float:
    def show(done: Progress) -> None:
        ui.note(
            f"  fine-tuning epoch {done.epoch}/{done.epochs}: loss {done.loss:.3f}, "
            f"{done.images_per_second:.0f} images/s"
        )

    net = quantized(setting.problem(seed=seed), policy)
    loader = Loader.training(setting.dataset, "fit", batch_size=recipe.batch_size, seed=seed)
    train(net, loader, recipe, checkpoint=state, on_epoch=show, seed=seed, device=setting.device)
    return evaluate(net, Loader(setting.dataset, "test", batch_size=250), device=setting.device)
