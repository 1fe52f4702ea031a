"""LoRA with dropout, DoRA and ALLoRA beside peft's, and by hand."""

from __future__ import annotations

import peft
import pytest
import torch
from torch import nn

from compendium.errors import UserError
from modules.networks.adapters.allora import ALLoRA
from modules.networks.adapters.dora import DoRA
from modules.networks.adapters.dropped_low_rank import DroppedLowRank
from modules.networks.adapters.low_rank import LowRank, LowRankWeight


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)).double()


def changes(net):
    return [part for part in net.modules() if isinstance(part, LowRankWeight)]


@pytest.mark.parametrize("dora", [False, True])
def test_outputs_and_gradients_are_those_of_peft(dora):
    config = peft.LoraConfig(r=3, lora_alpha=6, lora_dropout=0.0, use_dora=dora, target_modules=["0", "2"])
    theirs = peft.get_peft_model(network(), config).double()
    ours = network()
    (DoRA(3, 6.0) if dora else DroppedLowRank(3, 6.0, 0.0)).attach(ours)
    ours.double()
    draw = torch.Generator().manual_seed(1)
    layers = [theirs.base_model.model[0], theirs.base_model.model[2]]
    for change, layer in zip(changes(ours), layers, strict=True):
        for mine, other in ((change.down, layer.lora_A.default.weight), (change.up, layer.lora_B.default.weight)):
            value = torch.randn(mine.shape, generator=draw, dtype=torch.float64)
            mine.data.copy_(value)
            other.data.copy_(value)
    x = torch.randn(7, 6, generator=draw, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x))
    ours(x).square().sum().backward()
    theirs(x).square().sum().backward()
    for change, layer in zip(changes(ours), layers, strict=True):
        torch.testing.assert_close(change.down.grad, layer.lora_A.default.weight.grad)
        torch.testing.assert_close(change.up.grad, layer.lora_B.default.weight.grad)
        if dora:
            torch.testing.assert_close(change.magnitude.grad, layer.lora_magnitude_vector.default.weight.grad)


@pytest.mark.parametrize("adapter", [ALLoRA(2), DoRA(2), DroppedLowRank(2)])
def test_a_change_begins_as_none_and_is_all_that_moves(adapter):
    net, x = network(), torch.randn(3, 6, dtype=torch.float64)
    before = net(x)
    adapter.attach(net)
    torch.testing.assert_close(net(x), before)
    moving = {name.rpartition(".")[2] for name, p in net.named_parameters() if p.requires_grad}
    assert moving == {"down", "up"} | ({"magnitude"} if isinstance(adapter, DoRA) else set())


def test_dropout_is_of_training_and_keeps_the_mean():
    net = network()
    DroppedLowRank(3, 3.0, 0.5).attach(net)
    net.double()
    (first, _) = changes(net)
    first.up.data.normal_()
    x = torch.randn(1, 6, dtype=torch.float64).expand(20_000, 6)
    net.eval()
    calm = net[0](x)[0]
    net.train()
    torch.manual_seed(0)
    drawn = net[0](x)
    assert drawn.std(0).min() > 0.05
    torch.testing.assert_close(drawn.mean(0), calm, atol=0.05, rtol=0)


def test_allora_scales_the_rows_of_the_gradient():
    plain, adaptive = network(), network()
    torch.manual_seed(1)
    LowRank(2).attach(plain)
    torch.manual_seed(1)
    ALLoRA(2, eta=4.0).attach(adaptive)
    x = torch.randn(7, 6, dtype=torch.float64)
    for one, other in zip(changes(plain), changes(adaptive), strict=True):
        one.up.data[0] = other.up.data[0] = torch.tensor([3.0, 4.0])
    plain(x).square().sum().backward()
    adaptive(x).square().sum().backward()
    for one, other in zip(changes(plain), changes(adaptive), strict=True):
        torch.testing.assert_close(other.up.grad[0], one.up.grad[0] / (5 + 1 / 16) ** 0.5)
        torch.testing.assert_close(other.up.grad[1:], one.up.grad[1:] * 4)
        torch.testing.assert_close(other.down.grad, one.down.grad)


def test_mistakes_say_what_would_do():
    with pytest.raises(UserError, match="above 0"):
        ALLoRA(eta=0.0)
    with pytest.raises(UserError, match=r"\[0, 1\)"):
        DroppedLowRank(dropout=1.0)
    with pytest.raises(UserError, match="adapter=lora"):
        DroppedLowRank().attach(nn.Sequential(nn.Conv2d(1, 2, 3)))
