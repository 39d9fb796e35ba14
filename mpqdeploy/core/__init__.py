"""The nouns of the project, in plain Python and numpy."""

from mpqdeploy.core.budget import Budget, Metric
from mpqdeploy.core.cost import CostTable, bops_table, bytes_table
from mpqdeploy.core.errors import (
    BudgetError,
    BundleError,
    CheckpointError,
    ConfigError,
    DataError,
    ModelError,
    TargetError,
    UserError,
)
from mpqdeploy.core.latency import Fingerprint, LatencyRecord, Protocol
from mpqdeploy.core.policy import Policy
from mpqdeploy.core.precision import Precision, parse_precisions
from mpqdeploy.core.preprocessing import Preprocessing
from mpqdeploy.core.site import Geometry, Site

__all__ = [
    "Budget",
    "BudgetError",
    "BundleError",
    "CheckpointError",
    "ConfigError",
    "CostTable",
    "DataError",
    "Fingerprint",
    "Geometry",
    "LatencyRecord",
    "Metric",
    "ModelError",
    "Policy",
    "Precision",
    "Preprocessing",
    "Protocol",
    "Site",
    "TargetError",
    "UserError",
    "bops_table",
    "bytes_table",
    "parse_precisions",
]
