"""The digits live: the space of examples/bomp-digits.yaml, its trials trained for fewer epochs."""

from __future__ import annotations

from pathlib import Path

from mpqdeploy.core import Precision
from mpqdeploy.data import DataSpec
from mpqdeploy.nn.training import Recipe
from mpqdeploy.search.bomp.front import Pair
from mpqdeploy.search.bomp.networks import Choices
from mpqdeploy.search.bomp.training import Fidelity
from mpqdeploy.ui import Ui
from studying.functions import Function
from studying.trained import Trained

CHOICES = Choices(expansions=(1, 2, 3), repeats=(0, 1, 2))
# 404 images say which of two networks is the better one, 943 are left to train on.
DATA = DataSpec(name="digits", val_fraction=0.3)
FIDELITY = Fidelity(
    training=Recipe(epochs=5, batch_size=64, lr=0.05),
    tuning=Recipe(epochs=1, batch_size=64, lr=0.01),
)
FULL = Fidelity(
    training=Recipe(epochs=15, batch_size=64, lr=0.05),
    tuning=Recipe(epochs=4, batch_size=64, lr=0.01),
)
"""What the networks of a front are trained with in the end."""
CHANCE = 0.1
ARMS = {"QAFT": "tuned", "PTQ": "quantized"}
"""Which of a trial's accuracies the study sees: after fine-tuning, or after quantization alone."""


def digits(work: Path, ui: Ui) -> Trained:
    return Trained(
        model="mobile_digits",
        data=DATA,
        choices=CHOICES,
        fidelity=FIDELITY,
        folder=work / "trained",
        ui=ui,
    )


def live(trained: Trained, arm: str = "QAFT") -> Function:
    """The front of accuracy and bytes."""
    return trained.function(f"digits-{arm.lower()}", reference_of(trained), ARMS[arm])


def reference_of(trained: Trained) -> Pair:
    """The worst corner that counts: chance, and the usual network's bytes at uniform 8/8."""
    return CHANCE, trained.uniform(Precision.parse("8/8")).counted["bytes"]
