"""Training steps of one network in its forms, timed in turns, and what they are made of."""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from mpqdeploy.core import Budget, Policy, Precision, bops_table
from mpqdeploy.nn import (
    Mode,
    ModelSpec,
    build_quantized,
    build_supernet,
    calibrate,
    sites,
    task_of,
)
from mpqdeploy.nn.training import Recipe, make_optimizer, seed_everything
from mpqdeploy.search import BpNasSettings, search_space
from mpqdeploy.search.barrier import Barrier
from mpqdeploy.search.bilevel import Bilevel
from mpqdeploy.search.cost import ExpectedCosts

Step = Callable[[], object]
QAT = "QAT step at 4/4"
MIDDLE = Precision(weight_bits=4, act_bits=4)
RATE = 1e-4  # of random images on random weights: the steps must not diverge

PARTS = {
    "convolutions": r"aten::convolution|ConvolutionBackward0",
    "linear layers": r"aten::linear|AddmmBackward0|MmBackward0",
    "activation quantizers": r"(_QuantizeAct|_MixActs)(Backward)?",
    "weight quantizers": r"(_QuantizeWeight|_BinarizeWeight)(Backward)?",
    "batch normalisation": r"aten::batch_norm|\w*BatchNormBackward0",
    "optimizer": r"Optimizer\.step#.*",
}
"""Profiler events by their whole names; their times include what they call."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    images: Tensor
    labels: Tensor


def random_batch(spec: ModelSpec, size: int, device: torch.device) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(size, *spec.image, generator=generator).to(device)
    labels = torch.randint(spec.num_classes, (size,), generator=generator).to(device)
    return Batch(images=images, labels=labels)


def steps_of(spec: ModelSpec, precisions: Sequence[Precision], batch: Batch) -> dict[str, Step]:
    """By name: the plain step, then the weights' and the logits' step of both supernets."""
    made = {QAT: _qat_step(spec, batch)}
    modes: tuple[Mode, ...] = ("factorized", "joint")
    for mode in modes:
        bilevel = _bilevel(spec, precisions, mode, batch)
        made[f"{mode}, weights"] = _weight_step(bilevel, batch)
        made[f"{mode}, logits"] = _theta_step(bilevel, batch)
    return made


def timed(steps: Mapping[str, Step], turns: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of every step, one of each and round again; the first round is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(turns + 1):
        for name, step in steps.items():
            _wait(device)
            started = time.perf_counter()
            step()
            _wait(device)
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def peak_bytes(step: Step, device: torch.device) -> int:
    """Most bytes that tensors held above what they held before, by torch's own accounts."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return int(torch.cuda.max_memory_allocated(device) - before)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        step()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        found.export_chrome_trace(str(file))
        events = json.loads(file.read_text(encoding="utf-8"))["traceEvents"]
    changes = [
        event["args"]["Bytes"]
        for event in sorted(
            (e for e in events if e.get("name") == "[memory]"), key=lambda event: event["ts"]
        )
    ]
    held = most = 0
    for change in changes:
        held += change
        most = max(most, held)
    return most


def breakdown(step: Step) -> dict[str, float]:
    """Share of one step's CPU time by part, largest first; the rest is called `other`."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        step()
    events = found.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    shares = {
        part: sum(e.cpu_time_total for e in events if re.fullmatch(names, e.key)) / total
        for part, names in PARTS.items()
    }
    shares = {part: share for part, share in shares.items() if share > 0}
    ordered = dict(sorted(shares.items(), key=lambda item: -item[1]))
    return {**ordered, "other": max(0.0, 1 - sum(shares.values()))}


def _qat_step(spec: ModelSpec, batch: Batch) -> Step:
    seed_everything(0)
    found = sites(spec)
    policy = Policy(precisions={s.name: s.pinned or MIDDLE for s in found})
    net = build_quantized(spec, policy).to(batch.images.device)
    calibrate(net, [batch.images])
    net.train()
    optimizer = make_optimizer(net.named_parameters(), Recipe(lr=RATE))
    return lambda: _plain(net, optimizer, batch)


def _plain(net: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch) -> float:
    loss = task_of(net).judge(net(batch.images), batch.labels).loss
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    optimizer.step()
    return loss.item()


def _bilevel(spec: ModelSpec, precisions: Sequence[Precision], mode: Mode, batch: Batch) -> Bilevel:
    seed_everything(0)
    found = sites(spec)
    candidates = search_space(found, precisions)
    net = build_supernet(spec, candidates, mode).to(batch.images.device)
    calibrate(net, [batch.images])
    net.train()
    table = bops_table(found, precisions)
    least, greatest = table.bounds(candidates)
    budget = Budget(metric="bops", limit=(least + greatest) / 2)
    costs = ExpectedCosts({"bops": table}, [budget], candidates, device=batch.images.device)
    return Bilevel(net, costs, Barrier(), BpNasSettings(mode=mode))


def _weight_step(bilevel: Bilevel, batch: Batch) -> Step:
    return lambda: bilevel.weight_step(batch.images, batch.labels, RATE)


def _theta_step(bilevel: Bilevel, batch: Batch) -> Step:
    return lambda: bilevel.theta_step(batch.images, batch.labels, 0.1, note=True)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
