from __future__ import annotations

from brevitas import nn as qnn
from torch import nn

from mpqdeploy.nn.training import Recipe, make_optimizer


def test_only_weights_of_layers_decay() -> None:
    net = nn.Sequential(
        qnn.QuantConv2d(1, 4, 3, bias=True, weight_bit_width=4),
        nn.BatchNorm2d(4),
        qnn.QuantReLU(bit_width=4),
        nn.Linear(4, 2),
    )
    net[3].bias.requires_grad_(False)
    optimizer = make_optimizer(net.named_parameters(), Recipe(weight_decay=0.01))
    decayed, kept = optimizer.param_groups
    assert decayed["weight_decay"] == 0.01
    assert kept["weight_decay"] == 0
    assert {id(p) for p in decayed["params"]} == {id(net[0].weight), id(net[3].weight)}
    trained = {id(p) for p in net.parameters() if p.requires_grad}
    assert {id(p) for p in kept["params"]} == trained - {id(p) for p in decayed["params"]}
