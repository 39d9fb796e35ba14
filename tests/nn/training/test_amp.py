from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mpqdeploy.core import Precision
from mpqdeploy.nn import ModelSpec, build_supernet, calibrate, sites
from mpqdeploy.nn.training import Amp, Arithmetic, Recipe, evaluate, network_state, train
from mpqdeploy.nn.training.amp import pick_dtype
from tests.nn.training.problem import Blobs, make_net

CPU = torch.device("cpu")


def test_a_cpu_computes_in_float32_unless_asked() -> None:
    assert pick_dtype("auto", CPU) is None
    assert pick_dtype("off", CPU) is None
    assert pick_dtype("bfloat16", CPU) is torch.bfloat16


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_a_gpu_takes_bfloat16_where_it_has_it(
    monkeypatch: pytest.MonkeyPatch, native: bool, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    assert pick_dtype("auto", torch.device("cuda")) is dtype
    assert pick_dtype("off", torch.device("cuda")) is None


@pytest.mark.parametrize("amp", ["bfloat16", "float16"])
def test_it_learns_in_half_precision_with_float32_weights(amp: Amp) -> None:
    net, seen = make_net(), set()
    net[0].register_forward_hook(lambda module, args, output: seen.add(output.dtype))
    train(net, Blobs(), Recipe(epochs=4, lr=0.05, amp=amp), device="cpu")
    assert seen == {getattr(torch, amp)}
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    assert evaluate(net, Blobs().epoch(99), device="cpu") > 0.9


def test_scaled_gradients_are_those_of_the_loss() -> None:
    parameter = nn.Parameter(torch.tensor([3.0]))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    arithmetic = Arithmetic("float16", CPU)
    arithmetic.backward((parameter**2).sum())
    assert parameter.grad is not None
    assert float(parameter.grad) > 1e4
    arithmetic.unscale(optimizer)
    assert float(parameter.grad) == 6.0
    arithmetic.step(optimizer)
    assert float(parameter) == -3.0


def test_a_step_that_overflows_is_left_out_and_the_scale_falls() -> None:
    parameter = nn.Parameter(torch.tensor([1.0]))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    arithmetic = Arithmetic("float16", CPU)
    before = arithmetic.state()["scale"]
    arithmetic.backward((parameter * float("inf")).sum())
    arithmetic.step(optimizer)
    assert float(parameter) == 1.0
    assert arithmetic.state()["scale"] == before / 2
    again = Arithmetic("float16", CPU)
    again.restore(arithmetic.state())
    assert again.state() == arithmetic.state()
    assert Arithmetic("bfloat16", CPU).state() == {}


def test_a_run_in_float16_resumes_with_its_scale(tmp_path: Path) -> None:
    recipe = Recipe(epochs=3, lr=0.05, amp="float16")
    whole, parts = make_net(), make_net()
    train(whole, Blobs(), recipe, device="cpu", seed=2)

    def stop(progress: object) -> None:
        raise KeyboardInterrupt

    file = tmp_path / "train.pt"
    with pytest.raises(KeyboardInterrupt):
        train(make_net(), Blobs(), recipe, device="cpu", seed=2, checkpoint=file, on_epoch=stop)
    train(parts, Blobs(), recipe, device="cpu", seed=2, checkpoint=file)
    first, second = (network_state(net)["tensors"] for net in (whole, parts))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("amp", ["bfloat16", "float16"])
def test_scales_and_logits_stay_float32(amp: Amp) -> None:
    spec = ModelSpec(name="digits_cnn", num_classes=10, image=(1, 8, 8))
    pairs = [Precision.parse(text) for text in ("8/8", "4/4", "2/2")]
    net = build_supernet(spec, {site.name: pairs for site in sites(spec)}, "factorized")
    images = torch.randn(8, 1, 8, 8)
    calibrate(net, [images])
    arithmetic = Arithmetic(amp, CPU)
    with arithmetic.autocast():
        outputs: Tensor = net(images)
    arithmetic.backward(outputs.float().square().mean())
    for name, parameter in net.named_parameters():
        assert parameter.dtype is torch.float32, name
        if "log_scale" in name or "logits" in name:
            assert parameter.grad is not None, name
            assert parameter.grad.dtype is torch.float32, name
