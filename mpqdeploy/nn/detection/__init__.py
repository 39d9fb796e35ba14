"""Training and scoring one-stage detectors: matching, losses, average precision."""

from mpqdeploy.nn.detection.task import BoxLoss, Detection

__all__ = ["BoxLoss", "Detection"]
