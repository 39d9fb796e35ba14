"""Data sets by name."""

from __future__ import annotations

from difflib import get_close_matches

from mpqdeploy.core import ConfigError
from mpqdeploy.data.dataset import Dataset
from mpqdeploy.data.spec import DataSpec

DATASETS = ("digits", "cifar10", "cifar100", "imagefolder", "coco", "shapes")


def load_dataset(spec: DataSpec) -> Dataset:
    """The data set that `spec` names.

    Raises `ConfigError` for a name that is none of `DATASETS`, `DataError` for files that are
    missing or not what they should be.
    """
    # Each import brings its own decoder (scikit-learn, Pillow), needed by that data set alone.
    if spec.name == "digits":
        from mpqdeploy.data.digits import load_digits

        return load_digits(spec)
    if spec.name in ("cifar10", "cifar100"):
        from mpqdeploy.data.cifar import load_cifar

        return load_cifar(spec)
    if spec.name == "imagefolder":
        from mpqdeploy.data.image_folder import ImageFolder

        return ImageFolder(spec)
    if spec.name == "coco":
        from mpqdeploy.data.coco import load_coco

        return load_coco(spec)
    if spec.name == "shapes":
        from mpqdeploy.data.shapes import load_shapes

        return load_shapes(spec)
    close = get_close_matches(spec.name, DATASETS, n=1)
    guess = f"did you mean {close[0]}? " if close else ""
    raise ConfigError(
        f"data.name: there is no data set {spec.name!r}; {guess}".rstrip("; "),
        hint=f"Data sets: {', '.join(DATASETS)}.",
    )
