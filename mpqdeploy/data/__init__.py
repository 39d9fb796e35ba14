"""Data sets and their loaders."""

from mpqdeploy.core.preprocessing import Preprocessing
from mpqdeploy.data.dataset import Dataset
from mpqdeploy.data.load import DATASETS, load_dataset
from mpqdeploy.data.loader import Loader
from mpqdeploy.data.spec import SPLITS, DataSpec, Split

__all__ = [
    "DATASETS",
    "SPLITS",
    "DataSpec",
    "Dataset",
    "Loader",
    "Preprocessing",
    "Split",
    "load_dataset",
]
