"""Sensitivity and an integer program, after HAWQ: each precision's cost in loss, and the best sum.

To second order, and with the gradient near 0, a perturbation d of the weights w of one site changes
the loss by d^T H d / 2. HAWQ-V2 (arXiv 1911.03852) puts the mean eigenvalue in H's place,

    Omega_i(m) = tr(H_i) / n_i * ||Q_m(w_i) - w_i||^2 ,                                     [F]

n_i the number of weights; HAWQ-V3 (arXiv 2011.10680) picks one candidate per site by the integer
program min sum_i Omega_i under its budgets [F]. A candidate here is a pair, so the same expansion
is made in the activations a_i that the site reads, image by image [o]:

    score_i(m, n) = - tr(H_wi) / (2 n_wi) ||Q_m(w_i) - w_i||^2
                    - tr(H_ai) / (2 n_ai) ||Q_n(a_i) - a_i||^2

with the second trace and norm as means over images, so that both halves are changes of the mean
loss and add up. Traces are Hutchinson's, or the empirical Fisher's (`curvature`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from mpqdeploy.core import BudgetError, ConfigError, Policy
from mpqdeploy.core.files import read_json, write_json
from mpqdeploy.data import Loader
from mpqdeploy.nn import (
    build_float,
    build_supernet,
    calibrate,
    load_checkpoint,
    task_of,
    transfer,
)
from mpqdeploy.nn.layers import named_sites
from mpqdeploy.nn.quantizers import WeightStats, quantized_weight
from mpqdeploy.nn.training import pick_device, seed_everything
from mpqdeploy.nn.transfer import act_quantizers
from mpqdeploy.search.curvature import fisher_traces, hessian_traces, rademacher
from mpqdeploy.search.engine import Note, OnEvent, Problem, Result, ignore
from mpqdeploy.search.folder import SearchFolder
from mpqdeploy.search.post_training import CALIBRATION_BATCHES
from mpqdeploy.search.program import Scores, assign
from mpqdeploy.search.taps import tapped
from mpqdeploy.search.trials import best_of

Curvature = Literal["hessian", "fisher"]
Batch = tuple[Tensor, Tensor]

BATCH = 64
LEAST_SHARE = 1e-6
"""Floor of a mean eigenvalue, as a share of the greatest: a saddle's negative one would reward
noise, and 0 would not tell candidates apart."""


@dataclass(frozen=True, kw_only=True)
class SensitivitySettings:
    """`images` of the training split are looked at, with `probes` for every 64 of them (Hessian).

    The Fisher looks at images one by one.
    """

    curvature: Curvature = "hessian"
    images: int = 256
    probes: int = 8

    def __post_init__(self) -> None:
        for name, value in (("images", self.images), ("probes", self.probes)):
            if value < 1:
                raise ConfigError(
                    f"search.sensitivity_{name}: {value} is out of range.",
                    hint="It must be at least 1.",
                )


@dataclass(frozen=True, kw_only=True)
class Curvatures:
    """Mean eigenvalue per site: over its weights, and over its input per image."""

    weights: Mapping[str, float]
    acts: Mapping[str, float]


class Sensitivity:
    """The engine: see the module. Nothing is trained; the policy is the best by its scores."""

    name = "sensitivity"

    def __init__(self, settings: SensitivitySettings | None = None) -> None:
        self.settings = settings or SensitivitySettings()

    def search(self, problem: Problem, folder: Path, on_event: OnEvent = ignore) -> Result:
        """See `SearchEngine.search`."""
        return best_of(self, problem, folder, on_event, vars(self.settings))

    def policies(self, problem: Problem, place: SearchFolder, on_event: OnEvent) -> list[Policy]:
        """The program's answer. Curvatures stay on disk: they do not depend on the budgets."""
        net = _float_network(problem)
        file = place.path / "curvatures.json"
        if file.exists():
            found = Curvatures(**read_json(file))
        else:
            found = curvatures(net, problem, self.settings)
            write_json(file, vars(found))
            on_event(Note(message=_most_sensitive(found)))
        worth = scores(net, problem, found)
        best = assign(worth, problem.tables, problem.budgets, problem.candidates)
        if best is None:
            raise BudgetError(
                "no network of the search space meets the budgets.",
                hint="Raise a budget, or allow cheaper precisions.",
            )
        return [best]


def curvatures(net: nn.Module, problem: Problem, settings: SensitivitySettings) -> Curvatures:
    """Mean eigenvalues of `net`, in float form and evaluation mode, on training images."""
    size = BATCH if settings.curvature == "hessian" else 1
    count = -(-settings.images // size)
    sums: dict[str, list[float]] = {name: [0.0, 0.0] for name, _ in named_sites(net)}
    batches = list(_batches(problem, size, count))
    for number, batch in enumerate(batches):
        generator = torch.Generator().manual_seed(problem.seed * count + number)
        for site, pair in _of_batch(net, batch, settings, generator).items():
            sums[site] = [total + part for total, part in zip(sums[site], pair, strict=True)]
    means = {site: [total / len(batches) for total in pair] for site, pair in sums.items()}
    return Curvatures(
        weights=_floored({site: pair[0] for site, pair in means.items()}),
        acts=_floored({site: pair[1] for site, pair in means.items()}),
    )


def scores(net: nn.Module, problem: Problem, found: Curvatures) -> Scores:
    """Minus the predicted change of the loss for every candidate, the greatest scaled to 1."""
    weights, acts = _weight_errors(net, problem), _act_errors(net, problem)
    changes = {
        site: {
            p: found.weights[site] * weights[site][p.weight_bits] / 2
            + found.acts[site] * acts[site][p.act_bits] / 2
            for p in choices
        }
        for site, choices in problem.candidates.items()
    }
    unit = max(max(costs.values()) for costs in changes.values()) or 1.0
    return {site: {p: -c / unit for p, c in costs.items()} for site, costs in changes.items()}


def _of_batch(
    net: nn.Module, batch: Batch, settings: SensitivitySettings, generator: torch.Generator
) -> dict[str, tuple[float, float]]:
    """(mean eigenvalue over the weights, over the inputs of an image) of every site."""
    images, targets = batch
    weights = {name: site.weight for name, site in named_sites(net)}
    with tapped(net) as taps:
        loss = task_of(net).judge(net(images), targets).loss
    leaves = [*weights.values(), *(zero for zeros in taps.zeros.values() for zero in zeros)]
    if settings.curvature == "hessian":
        probes = (rademacher(leaves, generator) for _ in range(settings.probes))
        traces = iter(hessian_traces(loss, leaves, probes))
    else:
        traces = iter(fisher_traces(loss, leaves))
    of_weights = {name: next(traces) / weight.numel() for name, weight in weights.items()}
    of_inputs = {
        name: sum(next(traces) for _ in zeros) * len(images) / sum(z.numel() for z in zeros)
        for name, zeros in taps.zeros.items()
    }
    return {name: (of_weights[name], of_inputs.get(name, 0.0)) for name in weights}


@torch.no_grad()
def _weight_errors(net: nn.Module, problem: Problem) -> dict[str, dict[int, float]]:
    """||Q_m(w) - w||^2 by site and width."""
    errors = {}
    for name, site in named_sites(net):
        stats = WeightStats(site.weight)
        widths = {p.weight_bits for p in problem.candidates[name]}
        errors[name] = {
            bits: _squared(quantized_weight(site.weight, bits, stats) - site.weight)
            for bits in widths
        }
    return errors


@torch.no_grad()
def _act_errors(net: nn.Module, problem: Problem) -> dict[str, dict[int, float]]:
    """||Q_n(a) - a||^2, mean over images, by site and width, with scales as calibrated."""
    supernet = build_supernet(problem.spec, problem.candidates).to(next(net.parameters()).device)
    transfer(net, supernet)
    batches = [images for images, _ in _batches(problem, BATCH, CALIBRATION_BATCHES)]
    calibrate(supernet, batches)
    errors: dict[str, dict[int, float]] = {name: {} for name, _ in named_sites(net)}
    quantizers = {key: q for key, q in act_quantizers(supernet).items() if key[0] in errors}
    images = sum(len(batch) for batch in batches)
    for batch in batches:
        with tapped(net) as taps:
            net(batch)
        for (name, bits), quantizer in quantizers.items():
            parts = (_squared(quantizer.quantize(x) - x) for x in taps.inputs[name])
            errors[name][bits] = errors[name].get(bits, 0.0) + sum(parts) / images
    return errors


def _float_network(problem: Problem) -> nn.Module:
    seed_everything(problem.seed)
    net = build_float(problem.spec)
    if problem.checkpoint is not None:
        load_checkpoint(net, problem.checkpoint)
    return net.to(pick_device(problem.device)).eval()


def _batches(problem: Problem, size: int, count: int) -> Iterator[Batch]:
    """The first `count` batches of the shuffled training split, not augmented."""
    place = pick_device(problem.device)
    loader = Loader(problem.dataset, "train", batch_size=size, shuffle=True, seed=problem.seed)
    for images, targets in islice(iter(loader), count):
        yield images.to(place), targets.to(place)


def _squared(difference: Tensor) -> float:
    return difference.square().sum().item()


def _floored(values: Mapping[str, float]) -> dict[str, float]:
    least = LEAST_SHARE * max(max(values.values()), 1e-30)
    return {site: max(value, least) for site, value in values.items()}


def _most_sensitive(found: Curvatures) -> str:
    order = sorted(found.weights, key=found.weights.__getitem__, reverse=True)
    values = ", ".join(f"{site} {found.weights[site]:.3g}" for site in order[:3])
    return f"greatest mean eigenvalues of the weights' curvature: {values}."
