from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mpqdeploy.nn.training import Progress, Recipe, TrainingError, evaluate, network_state, train
from tests.nn.training.problem import RECIPE, Blobs, make_net


def _tensors(net: nn.Module) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = network_state(net)["tensors"]
    return tensors


def _same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_it_learns_and_reports() -> None:
    net = make_net()
    steps: list[Progress] = []
    epochs: list[Progress] = []
    recipe = Recipe(epochs=4, lr=0.05)
    history = train(
        net, Blobs(), recipe, device="cpu", on_epoch=epochs.append, on_step=steps.append
    )
    assert evaluate(net, Blobs().epoch(99), device="cpu") > 0.9
    assert history == epochs
    assert [(p.epoch, p.step) for p in steps] == [(e, s) for e in range(1, 5) for s in range(1, 7)]
    assert history[-1].loss < history[0].loss
    assert all(p.images_per_second > 0 and p.epochs == 4 and p.steps == 6 for p in steps)


def test_the_same_seed_gives_the_same_weights() -> None:
    first, second, third = make_net(), make_net(), make_net()
    for net, seed in ((first, 3), (second, 3), (third, 4)):
        train(net, Blobs(), RECIPE, seed=seed, device="cpu")
    assert _same(_tensors(first), _tensors(second))
    assert not _same(_tensors(first), _tensors(third))  # dropout draws from the seed


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_run_in_two_parts_ends_as_one_run(tmp_path: Path, optimizer: str) -> None:
    recipe = Recipe(epochs=4, lr=0.01, optimizer=optimizer)  # type: ignore[arg-type]
    whole, parts = make_net(), make_net()
    straight = train(whole, Blobs(), recipe, seed=3, device="cpu")

    def stop(progress: Progress) -> None:
        if progress.epoch == 2:
            raise KeyboardInterrupt

    file = tmp_path / "train.pt"
    with pytest.raises(KeyboardInterrupt):
        train(parts, Blobs(), recipe, seed=3, device="cpu", checkpoint=file, on_epoch=stop)
    fresh = make_net()
    torch.manual_seed(12345)
    history = train(fresh, Blobs(), recipe, seed=3, device="cpu", checkpoint=file)
    assert _same(_tensors(whole), _tensors(fresh))
    assert [p.loss for p in history] == [p.loss for p in straight]


def test_a_killed_process_continues_to_the_same_weights(tmp_path: Path) -> None:
    file = tmp_path / "train.pt"
    command = [sys.executable, "-m", "tests.nn.training.problem", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        for line in killed.stdout:
            if line.startswith("3 2"):  # inside the third epoch
                killed.kill()
                break
    assert killed.returncode == -9
    resumed, whole = make_net(), make_net()
    steps: list[Progress] = []
    train(resumed, Blobs(), RECIPE, seed=3, device="cpu", checkpoint=file, on_step=steps.append)
    assert (steps[0].epoch, steps[0].step) == (3, 1)
    train(whole, Blobs(), RECIPE, seed=3, device="cpu")
    assert _same(_tensors(whole), _tensors(resumed))


def test_post_step_runs_after_every_update() -> None:
    net = make_net()
    calls: list[float] = []

    def clip(inner: nn.Module) -> None:
        weight = inner.get_parameter("5.weight")
        with torch.no_grad():
            weight.clamp_(-0.01, 0.01)
        calls.append(weight.detach().abs().max().item())

    train(net, Blobs(), Recipe(epochs=1), device="cpu", post_step=clip)
    assert len(calls) == 6
    assert net.get_parameter("5.weight").detach().abs().max().item() <= 0.01


class _Poisoned(Blobs):
    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        for step, (images, labels) in enumerate(super().epoch(epoch)):
            yield (images * float("nan") if (epoch, step) == (1, 2) else images), labels


def test_a_loss_that_is_not_finite_names_the_step_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    net, file = make_net(), tmp_path / "train.pt"
    with pytest.raises(TrainingError, match="loss is not finite at step 3 of epoch 2"):
        train(net, _Poisoned(), RECIPE, device="cpu", checkpoint=file)
    again = make_net()
    history = train(again, Blobs(), RECIPE, device="cpu", checkpoint=file)
    assert len(history) == 4


def test_weights_that_overflow_are_not_saved(tmp_path: Path) -> None:
    file = tmp_path / "train.pt"

    def poison(net: nn.Module) -> None:
        with torch.no_grad():
            net.get_parameter("5.bias").mul_(float("inf"))

    class Last(Blobs):
        def __len__(self) -> int:
            return 1

        def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
            yield next(super().epoch(epoch))

    with pytest.raises(TrainingError, match="a weight is not finite"):
        train(make_net(), Last(), RECIPE, device="cpu", checkpoint=file, post_step=poison)
    assert not file.exists()


@pytest.mark.gpu
def test_on_cuda_it_learns_and_returns_home() -> None:
    net = make_net()
    train(net, Blobs(), Recipe(epochs=4, lr=0.05), device="cuda")
    assert next(net.parameters()).device.type == "cpu"
    assert evaluate(net, Blobs().epoch(99)) > 0.9
