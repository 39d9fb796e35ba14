from __future__ import annotations

import dataclasses
import pickle

import pytest
import torch

from mpqdeploy.core import ConfigError, Policy, Precision
from mpqdeploy.nn import (
    MODELS,
    ModelSpec,
    build_float,
    build_quantized,
    build_supernet,
    calibrate,
    site_layers,
    sites,
    task_of,
    transfer,
)
from mpqdeploy.nn.transfer import float_state

DIGITS = ModelSpec(name="digits_cnn", num_classes=10, image=(1, 8, 8))
EIGHT = Precision(weight_bits=8, act_bits=8)
FOUR = Precision(weight_bits=4, act_bits=4)
IMAGES = {"digits_cnn": (1, 8, 8), "retinanet": (3, 64, 64)}
OPTIONS = {"retinanet": {"width": 8, "features": 16, "depth": 1}}


def spec_of(name):
    image, options = IMAGES.get(name, (3, 32, 32)), OPTIONS.get(name, {})
    return ModelSpec(name=name, num_classes=7, image=image, options=options)


def outputs_of(net, x):
    outputs = net.eval()(x)
    return outputs if isinstance(outputs, tuple) else (outputs,)


def all_candidates(spec):
    return {s.name: [s.pinned] if s.pinned else [EIGHT, FOUR] for s in sites(spec)}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_form_has_the_same_float_names_and_runs(name):
    spec = spec_of(name)
    found = sites(spec)
    forms = [
        build_float(spec),
        build_supernet(spec, all_candidates(spec), "factorized"),
        build_quantized(spec, Policy.uniform(found, FOUR)),
    ]
    shapes = [{n: v.shape for n, v in float_state(net).items()} for net in forms]
    assert shapes[0] == shapes[1] == shapes[2]
    assert shapes[0] == {n: v.shape for n, v in forms[0].state_dict().items()}
    x = torch.randn(2, *spec.image)
    shapes = [[output.shape for output in outputs_of(net, x)] for net in forms]
    assert shapes[0] == shapes[1] == shapes[2]
    assert len(shapes[0]) == len(task_of(forms[0]).outputs)
    assert list(site_layers(forms[1])) == sorted(
        (s.name for s in found), key=[n for n, _ in forms[1].named_modules()].index
    )


@pytest.mark.parametrize("name", sorted(MODELS))
def test_geometry_is_what_the_layers_see(name):
    spec = spec_of(name)
    net = build_float(spec).eval()
    seen = {}

    def note(name, x, y):
        seen.setdefault(name, []).append((x, y))

    for site in sites(spec):
        net.get_submodule(site.name).register_forward_hook(
            lambda module, args, output, name=site.name: note(name, args[0], output)
        )
    net(torch.randn(1, *spec.image))
    for site in sites(spec):
        for geometry, (x, y) in zip(site.runs, seen[site.name], strict=True):
            assert x.shape[1] == geometry.in_channels
            assert y.shape[1] == geometry.out_channels
            if geometry.op == "conv":
                assert tuple(x.shape[2:]) == geometry.in_size
                assert tuple(y.shape[2:]) == geometry.out_size
            assert geometry.act_signed or x.min() >= 0
            assert geometry.weights == net.get_submodule(site.name).weight.numel()
    assert list(seen) == [site.name for site in sites(spec)]


def test_resnet20_is_the_published_one():
    spec = spec_of("resnet20")
    found = sites(dataclasses.replace(spec, num_classes=10))
    assert sum(site.weights for site in found) + 10 + 2 * 688 == 269_722
    assert sum(site.macs for site in found) == 40_551_040
    assert [site.name for site in found if site.pinned] == ["conv1", "linear"]


def test_imagenet_models_have_torchvisions_size():
    published = {"resnet18": 11_689_512, "resnet50": 25_557_032, "mobilenetv2": 3_504_872}
    for name, parameters in published.items():
        spec = ModelSpec(name=name, num_classes=1000, image=(3, 224, 224))
        with torch.device("meta"):
            assert sum(p.numel() for p in build_float(spec).parameters()) == parameters
        assert sites(spec)[0].geometry.out_size == (112, 112)


def test_pins_have_the_last_word():
    found = sites(DIGITS, pins={"conv1": None, "conv3": FOUR, "conv4": None}, exclude=["conv4"])
    assert {s.name: s.pinned for s in found} == {
        "conv1": None,
        "conv2": None,
        "conv3": FOUR,
        "conv4": None,
        "conv5": None,
        "linear": EIGHT,
    }
    assert sites(DIGITS, exclude=["conv4"])[3].pinned == EIGHT


def test_a_spec_survives_pickling():
    spec = ModelSpec(name="digits_cnn", num_classes=10, image=(1, 8, 8), options={"width": 8})
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert build_float(spec).conv1.out_channels == 8


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: build_float(dataclasses.replace(DIGITS, name="vgg")), "no model 'vgg'"),
        (
            lambda: build_float(dataclasses.replace(DIGITS, options={"depth": 3})),
            "no option 'depth'",
        ),
        (lambda: sites(DIGITS, exclude=["conv9"]), "no site 'conv9'"),
        (lambda: sites(DIGITS, pins={"conv9": None}), "no site 'conv9'"),
        (lambda: build_supernet(DIGITS, {}), "site 'conv1'"),
        (lambda: build_supernet(DIGITS, all_candidates(DIGITS), "gumbel"), "mode 'gumbel'"),
        (
            lambda: build_supernet(DIGITS, {**all_candidates(DIGITS), "conv2": []}),
            "'conv2' has no candidate",
        ),
        (lambda: build_quantized(DIGITS, Policy(precisions={"conv1": FOUR})), "site 'conv2'"),
        (
            lambda: build_quantized(
                DIGITS, Policy(precisions={**Policy.uniform(sites(DIGITS), FOUR).precisions,
                                           "fc": FOUR})
            ),
            "no site 'fc'",
        ),
    ],
)  # fmt: skip
def test_errors_name_what_is_wrong(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


@pytest.mark.parametrize("mode", ["joint", "factorized"])
def test_a_decided_supernet_is_the_quantized_network(mode):
    spec = dataclasses.replace(DIGITS, options={"width": 4})
    candidates = all_candidates(spec)
    net = build_supernet(spec, candidates, mode)
    images = torch.randn(4, 1, 8, 8)
    calibrate(net, [images])
    choice = {}
    for index, (name, layer) in enumerate(site_layers(net).items()):
        wanted = index % len(layer.candidates)
        chances = torch.full((len(layer.candidates),), 1e-30)
        chances[wanted] = 1
        layer.set_probabilities_(chances)
        choice[name] = layer.candidates[wanted]
        assert layer.chosen() == choice[name]
    quantized = build_quantized(spec, Policy(precisions=choice))
    assert transfer(net, quantized) == ()
    torch.testing.assert_close(quantized.eval()(images), net.eval()(images), rtol=1e-5, atol=1e-5)
