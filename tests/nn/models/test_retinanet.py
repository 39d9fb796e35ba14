from __future__ import annotations

import pytest
import torch

from mpqdeploy.core import ConfigError, bops_table, bytes_table, parse_precisions
from mpqdeploy.nn import ModelSpec, build_float, sites, task_of

TINY = {"width": 8, "features": 16, "depth": 1}
SPEC = ModelSpec(name="retinanet", num_classes=3, image=(3, 64, 96), options=TINY)


def test_outputs_fit_the_anchors() -> None:
    net = build_float(SPEC).eval()
    task = task_of(net)
    outputs = net(torch.randn(2, *SPEC.image))
    maps = task.anchors.maps
    assert maps == ((8, 12), (4, 6), (2, 3), (1, 2), (1, 1))
    assert [tuple(o.shape) for o in outputs[:5]] == [(2, 27, h, w) for h, w in maps]
    assert [tuple(o.shape) for o in outputs[5:]] == [(2, 36, h, w) for h, w in maps]
    assert len(task.outputs) == len(outputs)


def test_training_starts_from_the_prior() -> None:
    """Every class at 1 %, so that the many background anchors do not swamp the loss."""
    outputs = build_float(SPEC).eval()(torch.randn(1, *SPEC.image))
    assert torch.sigmoid(outputs[0]).mean().item() == pytest.approx(0.01, rel=0.2)


def test_a_head_is_one_site_of_five_runs() -> None:
    found = {site.name: site for site in sites(SPEC)}
    head = found["class_head.convs.0"]
    assert [run.in_size for run in head.runs] == [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)]
    assert head.macs == 16 * 16 * 9 * (96 + 24 + 6 + 2 + 1)
    assert head.weights == 16 * 16 * 9
    precisions = parse_precisions(["4/2"])
    assert bops_table([head], precisions).cost(head.name, precisions[0]) == head.macs * 8
    assert bytes_table([head], precisions).cost(head.name, precisions[0]) == head.weights / 2


def test_first_and_last_layers_are_pinned() -> None:
    pinned = [site.name for site in sites(SPEC) if site.pinned]
    assert pinned == ["backbone.conv1", "class_head.predict", "box_head.predict"]


def test_it_learns_one_image() -> None:
    torch.manual_seed(0)
    net = build_float(SPEC).train()
    images = torch.randn(2, *SPEC.image)
    targets = torch.tensor([[[10.0, 10, 50, 50, 1, 0]], [[20.0, 5, 80, 60, 2, 0]]])
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        loss = task_of(net).judge(net(images), targets).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 3


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        ((3, 100, 96), {}, "multiples of 32"),
        ((3, 32, 32), {}, "at least 64"),
        ((3, 64, 64), {"backbone": "vgg"}, "'vgg'"),
        ((3, 64, 64), {"box_loss": "l2"}, "'l2'"),
    ],
)
def test_errors(image: tuple[int, int, int], options: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_float(ModelSpec(name="retinanet", num_classes=3, image=image, options=options))
