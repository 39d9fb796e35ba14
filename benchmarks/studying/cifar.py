"""CIFAR-10 and CIFAR-100: fronts that a study finds, beside uniform variants of MobileNetV2.

All of them are trained in full by one recipe, and scored on the test images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from searching.digests import digest

from mpqdeploy.core import parse_precisions
from mpqdeploy.data import DataSpec
from mpqdeploy.nn.training import Recipe, pick_device
from mpqdeploy.search.bomp.networks import Choices
from mpqdeploy.search.bomp.training import Fidelity
from mpqdeploy.ui import Ui
from studying.finals import finals
from studying.races import Race
from studying.trained import Trained

Name = Literal["cifar10", "cifar100"]
CLASSES = {"cifar10": 10, "cifar100": 100}
UNIFORM = parse_precisions(("8/8", "4/8", "4/4"))
COLUMNS = (
    "data", "network", "KiB", "MBOPs", "top-1, test", "in float", "quantized", "in the loop",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large a comparison is: the space, the variants, the images and the epochs.

    `images`: how many to train on, None for all. `epochs` and `full_epochs`: in float and of
    fine-tuning, of a trial and of the networks in the table.
    """

    choices: Choices
    variants: tuple[dict[str, Any], ...]
    images: int | None
    test_images: int | None
    epochs: tuple[int, int]
    full_epochs: tuple[int, int]
    batch_size: int
    trials: int
    initial: int
    finalists: int


STAGES = 7
SMALL = Size(
    choices=Choices(
        widths=(0.25, 0.5), expansions=(1, 2, 3), repeats=(0, 1), head_widths=(0.1, 0.25)
    ),
    # A block per stage of the usual expansions' half: what a CPU trains in a minute.
    variants=tuple(
        {
            "widths": [width] * STAGES,
            "repeats": [1] * STAGES,
            "expansions": [1, *[3] * (STAGES - 1)],
            "head_width": 0.25,
        }
        for width in (0.25, 0.5)
    ),
    images=8000,
    test_images=2000,
    epochs=(2, 1),
    full_epochs=(8, 2),
    batch_size=64,
    trials=20,
    initial=8,
    finalists=5,
)
PAPER = Size(
    choices=Choices(),
    variants=tuple({"widths": [width] * STAGES} for width in (0.5, 1.0)),
    images=None,
    test_images=None,
    epochs=(20, 1),
    full_epochs=(200, 5),
    batch_size=128,
    trials=100,
    initial=10,
    finalists=6,
)
SIZES = {"small": SMALL, "paper": PAPER}


def fidelity(size: Size, epochs: tuple[int, int]) -> Fidelity:
    training, tuning = epochs
    rate = 0.1 * size.batch_size / 128
    return Fidelity(
        training=Recipe(epochs=training, batch_size=size.batch_size, lr=rate),
        tuning=Recipe(epochs=tuning, batch_size=size.batch_size, lr=0.01),
    )


def data_of(name: Name, folder: Path, size: Size) -> DataSpec:
    limits = {"train": size.images, "test": size.test_images}
    limit = {split: count for split, count in limits.items() if count is not None}
    if size.images is not None:
        limit["val"] = min(size.images // 3, 1000)
    return DataSpec(name=name, dir=folder, limit=limit, search_fraction=0.0)


def fronts(name: Name, place: Path, size: Size, work: Path, seed: int, ui: Ui) -> dict[str, Any]:
    """The study's front and the uniform variants, each with its accuracies and costs."""
    trained = Trained(
        model="mobile_cifar",
        data=data_of(name, place, size),
        choices=size.choices,
        fidelity=fidelity(size, size.epochs),
        folder=work / "trained",
        ui=ui,
        device=str(pick_device("auto")),
    )
    full = fidelity(size, size.full_epochs)
    uniform = list(_uniform(trained, size, full))
    ceiling = max(row["bytes"] for row in uniform)
    function = trained.function(name, (1 / CLASSES[name], ceiling))
    folder = work / f"fronts-{digest(asdict(size))}"
    run = Race(size.trials, folder, ui, initial=size.initial)(function, "bo", seed)
    return {
        "data": name,
        "images": trained.dataset.size("fit"),
        "test_images": trained.dataset.size("test"),
        "device": trained.device,
        "size": asdict(size),
        "networks": trained.networks.space.count(),
        "curve": run["curve"],
        "trials": len(run["trials"]),
        "uniform": uniform,
        "front": finals(trained, run, full, size.finalists, ceiling),
    }


def _uniform(trained: Trained, size: Size, full: Fidelity) -> Iterator[dict[str, Any]]:
    for options in size.variants:
        for precision in UNIFORM:
            network = trained.uniform(precision, **options)
            row = trained.row(network, full, "test")
            name = f"MobileNetV2 × {options['widths'][0]:g}, {precision}"
            kept = {key: row[key] for key in ("float32", "quantized", "tuned")}
            yield {"name": name, "precision": str(precision), **kept, **row["costs"]}


def summary(records: Sequence[dict[str, Any]]) -> list[list[str]]:
    """A row per network, by size: the variants, then the front."""
    rows = []
    for record in records:
        for one in sorted(record["uniform"], key=lambda one: float(one["bytes"])):
            rows.append([record["data"], one["name"], *_cells(one), ""])
        for number, one in enumerate(record["front"], 1):
            in_loop = f"{100 * one['in_loop']:.1f} %"
            rows.append([record["data"], f"found {number}", *_cells(one), in_loop])
    return rows


def _cells(one: dict[str, Any]) -> list[str]:
    shares = [f"{100 * one[key]:.1f} %" for key in ("tuned", "float32", "quantized")]
    return [f"{one['bytes'] / 1024:.1f}", f"{one['bops'] / 1e6:.0f}", *shares]
