"""Training, evaluation and their state on disk."""

from mpqdeploy.nn.training.amp import Amp, Arithmetic
from mpqdeploy.nn.training.batchnorm import recalibrate_batchnorm
from mpqdeploy.nn.training.checkpoint import network_state, restore_network
from mpqdeploy.nn.training.device import pick_device
from mpqdeploy.nn.training.evaluation import evaluate, evaluating
from mpqdeploy.nn.training.loop import Batches, Progress, TrainingError, train
from mpqdeploy.nn.training.optimizer import make_optimizer, set_rate
from mpqdeploy.nn.training.recipe import Recipe
from mpqdeploy.nn.training.seed import random_state, restore_random_state, seed_everything
from mpqdeploy.nn.training.world import ALONE, World, is_leader, joined

__all__ = [
    "ALONE",
    "Amp",
    "Arithmetic",
    "Batches",
    "Progress",
    "Recipe",
    "TrainingError",
    "World",
    "evaluate",
    "evaluating",
    "is_leader",
    "joined",
    "make_optimizer",
    "network_state",
    "pick_device",
    "random_state",
    "recalibrate_batchnorm",
    "restore_network",
    "restore_random_state",
    "seed_everything",
    "set_rate",
    "train",
]
