"""What a run is told: the YAML file, its sections, its errors. Light to import."""

from mpqdeploy.config.config import Config
from mpqdeploy.config.limit import Limit
from mpqdeploy.config.sections import (
    BudgetSection,
    DataSection,
    FinetuneSection,
    LogSection,
    MeasureSection,
    ModelSection,
    RefitSection,
    SearchSection,
    TargetSection,
    TrainSection,
)

__all__ = [
    "BudgetSection",
    "Config",
    "DataSection",
    "FinetuneSection",
    "Limit",
    "LogSection",
    "MeasureSection",
    "ModelSection",
    "RefitSection",
    "SearchSection",
    "TargetSection",
    "TrainSection",
]
