"""Layers of shared and own parts beside the matrices they stand for."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from modules.networks.adapters.low_rank import LowRank
from modules.networks.adapters.tailors import Tailors
from modules.networks.dit import DiT
from modules.networks.factored import Factored, FactoredDiT, Gate


def layer(common=3, own=2, classes=4):
    torch.manual_seed(0)
    gate = Gate()
    made = Factored(6, 5, gate, common, own, classes).double()
    for weight in made.parameters():
        weight.data.normal_()
    return made, gate


def matrix(made, y):
    """Sum over parts of s u v^T, (outputs, inputs), one part after the other."""
    total = torch.zeros(5, 6, dtype=torch.float64)
    parts = list(zip(made.scale, made.up, made.down, strict=True))
    if y >= 0:
        parts += list(zip(made.own_scale[y], made.own_up[y], made.own_down[y], strict=True))
    for s, u, v in parts:
        total += s * torch.outer(u, v)
    return total


@pytest.mark.parametrize("middle", [(), (7,), (2, 3)])
def test_each_record_goes_through_the_matrix_of_its_class(middle):
    made, gate = layer()
    gate.y = torch.tensor([2, -1, 0, 2])
    x = torch.randn(4, *middle, 6, dtype=torch.float64)
    out = made(x)
    for i, y in enumerate(gate.y):
        torch.testing.assert_close(out[i], x[i] @ matrix(made, y).mT + made.bias)


def test_a_new_layer_has_the_variance_of_torchs_own():
    torch.manual_seed(0)
    made = Factored(200, 300, Gate(), 20, 5, 2)
    weight = (made.down.mT * made.scale) @ made.up + (made.own_down[0].mT * made.own_scale[0]) @ made.own_up[0]
    assert float(weight.detach().var()) == pytest.approx(
        float(torch.nn.Linear(200, 300).weight.detach().var()), rel=0.1
    )


def network(**options):
    torch.manual_seed(0)
    sizes = {"width": 16, "depth": 1, "heads": 2, "time": True, "classes": 3, "common": 4, "own": 2}
    net = FactoredDiT((1, 4, 4), (1, 4, 4), **sizes | options).double()
    for weight in net.parameters():
        weight.data.normal_(std=0.3)
    return net


def test_with_the_full_matrices_it_is_a_dit():
    """A DiT that is given each layer's W_y draws what the factored one draws of class y."""
    net = network()
    plain = DiT((1, 4, 4), (1, 4, 4), width=16, depth=1, heads=2, time=True, classes=3).double()
    state = {name: value for name, value in net.state_dict().items() if name in plain.state_dict()}
    x, t = torch.randn(2, 1, 4, 4, dtype=torch.float64), torch.rand(2, dtype=torch.float64)
    for y in (-1, 1):
        for name in ("blocks.0.inward", "blocks.0.outward", "blocks.0.mlp.0", "blocks.0.mlp.2"):
            part = net.get_submodule(name)
            weight = (part.up.mT * part.scale) @ part.down
            if y >= 0:
                weight = weight + (part.own_up[y].mT * part.own_scale[y]) @ part.own_down[y]
            state |= {f"{name}.weight": weight, f"{name}.bias": part.bias}
        plain.load_state_dict(state)
        labels = torch.full((2,), y)
        torch.testing.assert_close(net(x, t, labels), plain(x, t, labels))


def test_tailors_keep_what_is_shared_and_train_new_parts_for_as_many_classes_as_there_are():
    net = network()
    kept = net.blocks[0].inward.down.clone()
    x, t = torch.randn(3, 1, 4, 4, dtype=torch.float64), torch.rand(3, dtype=torch.float64)
    net.condition.label = torch.nn.Embedding(6, 16).double()
    net.condition.label.weight.data[-1] = 0.0
    Tailors().attach(net)
    trained = {name.rsplit(".", 1)[1] for name, weight in net.named_parameters() if weight.requires_grad}
    assert trained == {"own_down", "own_up", "own_scale"}
    assert net.blocks[0].inward.own_down.shape == (5, 2, 16)
    assert torch.equal(net.blocks[0].inward.down, kept)
    net(x, t, torch.tensor([0, 4, -1])).sum().backward()
    assert net.blocks[0].inward.own_up.grad[[1, 2, 3]].abs().max() == 0
    assert net.blocks[0].inward.own_up.grad[[0, 4]].abs().amin(dim=(1, 2)).min() > 0


def test_what_has_no_classes_or_parts_is_refused():
    with pytest.raises(UserError, match="knows no classes"):
        network(classes=0)
    with pytest.raises(UserError, match=r"net\.own=0"):
        network(own=0)
    with pytest.raises(UserError, match="factored_dit"):
        Tailors().attach(DiT((1, 4, 4), (1, 4, 4), width=16, depth=1, classes=2))
    with pytest.raises(UserError, match="rank=0"):
        LowRank(0)
