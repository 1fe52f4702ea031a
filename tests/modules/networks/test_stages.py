"""Networks in stages give what their stages give, one after another."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import nn

from compendium.config import ROOT
from modules.networks.cnn import CNN
from modules.networks.layered import Layered
from modules.networks.mlp import MLP
from modules.networks.stages import Staged, staged
from modules.networks.transformer import Transformer

NETS = {
    CNN: lambda: (CNN((1, 8, 8), (3,), channels=(8, 16)), (torch.randn(2, 1, 8, 8),)),
    Layered: lambda: (Layered((5,), (3,), width=4), (torch.randn(2, 5),)),
    MLP: lambda: (
        MLP((5,), (3,), width=4, time=True, classes=2),
        (torch.randn(2, 5), torch.rand(2), torch.ones(2).long()),
    ),
    Transformer: lambda: (Transformer((6,), (9,), width=8, depth=3, heads=2), (torch.randint(9, (2, 6)),)),
}


def test_all_of_them_are_here():
    names = [path.stem for path in (ROOT / "modules/networks").glob("*.py") if path.stem not in ("__init__", "stages")]
    modules = [importlib.import_module(f"modules.networks.{name}") for name in names]
    found = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    assert {kind for kind in found if {"stages", "enter", "through", "leave"} <= set(vars(kind))} == set(NETS)


@pytest.mark.parametrize("kind", NETS)
def test_the_forward_pass_is_its_parts(kind):
    net, inputs = NETS[kind]()
    assert isinstance(net, Staged)
    state = net.enter(*inputs)
    for stage in range(len(net.stages())):
        state = net.through(stage, state)
    assert torch.equal(net.leave(state), net(*inputs))


@pytest.mark.parametrize("kind", NETS)
def test_a_stage_depends_on_its_own_weights_alone(kind):
    for number in range(len(NETS[kind]()[0].stages())):
        net, inputs = NETS[kind]()
        state = net.enter(*inputs)
        for stage in range(number):
            state = net.through(stage, state)
        own = {id(p) for module in net.stages()[number] for p in module.parameters()}
        expected = net.through(number, state)
        with torch.no_grad():
            for parameter in net.parameters():
                if id(parameter) not in own:
                    parameter.fill_(torch.nan)
        found = net.through(number, state)
        one, other = (value[0] if isinstance(value, tuple) else value for value in (expected, found))
        assert torch.equal(one, other)


def test_outermost_ones_are_found_and_changed_ones_are_not():
    class Changed(Layered):
        def forward(self, x):
            return super().forward(x) + 1

    inner = Layered((5,), (3,), width=4)
    both = nn.ModuleList([inner, Changed((5,), (3,), width=4), nn.Linear(2, 2)])
    assert staged(both) == [inner]
