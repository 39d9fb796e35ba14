"""What a search shows of itself to other programs while it runs: TensorBoard, MLflow."""

from mpqdeploy.tracking.tracker import Tracker, check_trackers, open_trackers

__all__ = ["Tracker", "check_trackers", "open_trackers"]
