from __future__ import annotations

import numpy as np
import pytest
import torch

from mpqdeploy.core import CheckpointError, ConfigError, Policy, Precision
from mpqdeploy.nn import (
    ModelSpec,
    build_float,
    build_quantized,
    load_backbone,
    load_checkpoint,
    sites,
)
from tests.nn.executor import randomise_batchnorm

SPEC = ModelSpec(name="digits_cnn", num_classes=10, image=(1, 8, 8), options={"width": 8})


def trained():
    net = build_float(SPEC)
    randomise_batchnorm(net, seed=5)
    return net


def write(path, state):
    if path.suffix == ".npz":
        np.savez(path, **{name: value.numpy() for name, value in state.items()})
    else:
        torch.save({"state_dict": {f"module.{name}": v for name, v in state.items()}}, path)


@pytest.mark.parametrize("file", ["w.npz", "w.th", "w.pt"])
def test_each_format_restores_every_value(file, tmp_path):
    source = trained()
    write(tmp_path / file, source.state_dict())
    quantized = build_quantized(SPEC, Policy.uniform(sites(SPEC), Precision.parse("4/4")))
    for net in (build_float(SPEC), quantized):
        load_checkpoint(net, tmp_path / file)
        state = net.state_dict()
        for name, value in source.state_dict().items():
            torch.testing.assert_close(state[name], value, rtol=0, atol=0)


def test_old_checkpoints_lack_the_batch_counter(tmp_path):
    source = trained()
    state = {n: v for n, v in source.state_dict().items() if "num_batches" not in n}
    torch.save(state, tmp_path / "w.pt")
    net = build_float(SPEC)
    load_checkpoint(net, tmp_path / "w.pt")
    torch.testing.assert_close(net.bn2.running_mean, source.bn2.running_mean)


def renamed(state):
    return {name.replace("conv2", "conv9"): value for name, value in state.items()}


def reshaped(state):
    return {**state, "linear.weight": torch.zeros(7, 32)}


def extended(state):
    return {**state, "fc.weight": torch.zeros(3)}


@pytest.mark.parametrize("file", ["w.npz", "w.th"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (renamed, "no 'conv2.weight'"),
        (reshaped, r"'linear.weight' has shape \[7, 32\], the model's has \[10, 32\]"),
        (extended, "'fc.weight' is in the file and not in the model"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_loaded(change, message, file, tmp_path):
    path = tmp_path / file
    write(path, change(trained().state_dict()))
    net = build_float(SPEC)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(net, path)
    assert str(path) in str(caught.value)
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


@pytest.mark.parametrize("file", ["w.npz", "w.th", "w.pt"])
@pytest.mark.parametrize("damage", ["absent", "empty", "text", "cut"])
def test_an_unreadable_file_is_one_clear_line(file, damage, tmp_path):
    path = tmp_path / file
    if damage == "cut":
        write(path, trained().state_dict())
        path.write_bytes(path.read_bytes()[:-700])
    elif damage != "absent":
        path.write_text("" if damage == "empty" else "these are no weights")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(build_float(SPEC), path)
    assert str(path) in caught.value.message
    assert "\n" not in str(caught.value)


class Harmful:
    def __reduce__(self):
        return (eval, ("1 + 1",))


def test_nothing_in_a_checkpoint_is_executed(tmp_path):
    torch.save({"conv1.weight": Harmful()}, tmp_path / "w.pt")
    np.savez(tmp_path / "w.npz", **{"conv1.weight": np.array([Harmful()], dtype=object)})
    for file in ("w.pt", "w.npz"):
        with pytest.raises(CheckpointError, match="cannot be read"):
            load_checkpoint(build_float(SPEC), tmp_path / file)


def test_a_file_without_tensors_is_refused(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="no tensors"):
        load_checkpoint(build_float(SPEC), tmp_path / "w.pt")


def test_a_detector_takes_a_classifiers_weights(tmp_path):
    classifier = build_float(
        ModelSpec(name="resnet18", num_classes=7, image=(3, 64, 64), options={"width": 8})
    )
    randomise_batchnorm(classifier, seed=5)
    write(tmp_path / "w.pth", classifier.state_dict())
    tiny = {"width": 8, "features": 8, "depth": 0}
    net = build_float(ModelSpec(name="retinanet", num_classes=3, image=(3, 64, 64), options=tiny))
    load_backbone(net, tmp_path / "w.pth")
    state = net.backbone.state_dict()
    assert set(classifier.state_dict()) - set(state) == {"fc.weight", "fc.bias"}
    for name, value in state.items():
        torch.testing.assert_close(value, classifier.state_dict()[name], rtol=0, atol=0)
    with pytest.raises(ConfigError, match=r"model\.backbone"):
        load_backbone(classifier, tmp_path / "w.pth")
