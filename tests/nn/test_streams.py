"""Readers of a stream at its own width share its quantizer: one scale, one stored tensor."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mpqdeploy.core import Policy, Precision
from mpqdeploy.export.qonnx import export_qonnx
from mpqdeploy.nn import ModelSpec, build_quantized, build_supernet, calibrate, sites, transfer
from mpqdeploy.nn.build import _on_meta
from mpqdeploy.nn.streams import stream_readers
from mpqdeploy.nn.training import network_state, restore_network
from mpqdeploy.nn.transfer import act_quantizers
from mpqdeploy.targets.passes.integerize import integerize
from mpqdeploy.targets.passes.normalize import normalize

SPEC = ModelSpec(name="resnet20", num_classes=10, image=(3, 8, 8))
WIDE, NARROW = Precision(weight_bits=8, act_bits=8), Precision(weight_bits=4, act_bits=4)


def quantized(**precisions: Precision) -> torch.nn.Module:
    policy = Policy.uniform(sites(SPEC), WIDE)
    changed = {name.replace("_", "."): p for name, p in precisions.items()}
    torch.manual_seed(0)
    net = build_quantized(SPEC, Policy(precisions={**policy.precisions, **changed}))
    calibrate(net, [torch.rand(4, *SPEC.image)])
    return net


def tensors(net: torch.nn.Module, step: str, tmp_path: Path) -> list[str]:
    """What the compiled network stores behind a layer."""
    export_qonnx(net, SPEC.image, tmp_path / "net.onnx")
    program = integerize(normalize(tmp_path / "net.onnx"))
    found = next(one for one in program.steps if one.name == step)
    return [output.tensor for output in found.outputs]


def test_readers_are_found_by_what_reaches_them() -> None:
    readers = stream_readers(*_on_meta(SPEC))
    assert readers["layer1.0.conv1"] == "stream"
    assert readers["layer3.2.conv1"] == "layer3.1.stream"
    # These read what lies between two convolutions of a block, the image and pooled features.
    assert not any(name.endswith("conv2") or name in ("conv1", "linear") for name in readers)


def test_a_detector_s_pyramid_reads_the_backbone_s_streams() -> None:
    options = {"width": 16, "features": 16, "depth": 1}
    spec = ModelSpec(name="retinanet", num_classes=3, image=(3, 64, 64), options=options)
    readers = stream_readers(*_on_meta(spec))
    assert readers["pyramid.laterals.1"] == "backbone.layer3.1.stream"
    assert readers["pyramid.outputs.0"] == "pyramid.sums.0"
    # Heads read every level: no one stream.
    assert not any("head" in name for name in readers)


def test_only_readers_at_the_stream_s_width_share(tmp_path: Path) -> None:
    wide, mixed = quantized(), quantized(layer1_1_conv1=NARROW)
    assert len(act_quantizers(mixed)) == len(act_quantizers(wide)) + 1
    assert len(tensors(wide, "layer1.0.conv2", tmp_path)) == 1
    stored = tensors(mixed, "layer1.0.conv2", tmp_path)
    assert len(stored) == 2
    assert "layer1.0.stream.act_quant" in stored


def test_requantizing_with_the_same_scale_changes_nothing() -> None:
    net = quantized().eval()
    seen: dict[str, torch.Tensor] = {}
    proxy = net.get_submodule("layer1.1.conv1.input_quant")
    proxy.register_forward_hook(lambda _, args, out: seen.update(x=args[0], y=out))
    with torch.no_grad():
        net(torch.rand(2, *SPEC.image))
    x = seen["x"] if isinstance(seen["x"], torch.Tensor) else seen["x"].value
    y = seen["y"] if isinstance(seen["y"], torch.Tensor) else seen["y"].value
    torch.testing.assert_close(y, x, rtol=1e-6, atol=0)
    assert float(x.abs().max()) > 0


def test_training_moves_the_one_scale_and_a_state_brings_it_back(tmp_path: Path) -> None:
    net = quantized()
    names = [name for name, _ in net.named_parameters() if name.endswith("log_scale")]
    assert len(names) == len(act_quantizers(net))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net(torch.rand(4, *SPEC.image)).square().mean().backward()
    optimizer.step()
    other = quantized()
    restore_network(other, network_state(net), tmp_path / "state.pt")
    one, two = (dict(n.state_dict()) for n in (net, other))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("mode", ["joint", "factorized"])
def test_a_supernet_s_scales_reach_every_quantizer(mode: str) -> None:
    policy = Policy.uniform(sites(SPEC), WIDE)
    candidates = {site.name: (WIDE,) if site.pinned else (WIDE, NARROW) for site in sites(SPEC)}
    supernet = build_supernet(SPEC, candidates, mode)  # type: ignore[arg-type]
    calibrate(supernet, [torch.rand(4, *SPEC.image)])
    assert transfer(supernet, build_quantized(SPEC, policy)) == ()
