"""Quantized and searchable networks on Brevitas. Importing this imports torch."""

from __future__ import annotations

from mpqdeploy.nn.build import (
    build_float,
    build_quantized,
    build_supernet,
    site_layers,
    sites,
)
from mpqdeploy.nn.calibrate import calibrate, float_activations
from mpqdeploy.nn.checkpoint import load_backbone, load_checkpoint
from mpqdeploy.nn.models import MODELS
from mpqdeploy.nn.reshape import scale_clip_
from mpqdeploy.nn.search_layer import Mode, SearchLayer
from mpqdeploy.nn.spec import ModelSpec
from mpqdeploy.nn.task import CLASSIFICATION, Task, task_of
from mpqdeploy.nn.transfer import transfer

__all__ = [
    "CLASSIFICATION",
    "MODELS",
    "Mode",
    "ModelSpec",
    "SearchLayer",
    "Task",
    "build_float",
    "build_quantized",
    "build_supernet",
    "calibrate",
    "float_activations",
    "load_backbone",
    "load_checkpoint",
    "scale_clip_",
    "site_layers",
    "sites",
    "task_of",
    "transfer",
]
