"""Noisy layers against their laws, their limits, and members written out."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import nn

from compendium.errors import UserError
from modules.networks.cnn import CNN
from modules.networks.mlp import MLP
from modules.networks.stochastic import (
    BatchEnsemble,
    ConcreteDropout,
    ConcreteDropped,
    Dropout,
    Dropped,
    Ensembled,
    passes,
    penalty,
)


def test_dropout_has_the_mean_and_variance_of_a_scaled_bernoulli():
    torch.manual_seed(0)
    layer = nn.Linear(3, 1, bias=False)
    layer.weight.data = torch.tensor([[1.0, 2.0, -1.0]])
    x = torch.ones(1, 3)
    outputs = passes(Dropped(layer, 0.2), x, 200_000).detach().squeeze()
    # Var(m / (1 - p)) = p / (1 - p); so the output has 0.25 * (1 + 4 + 1).
    assert float(outputs.mean()) == pytest.approx(2.0, abs=5 * math.sqrt(1.5 / 200_000))
    assert float(outputs.var()) == pytest.approx(1.5, rel=0.02)


def test_dropout_stays_on_in_evaluation_and_drops_whole_channels():
    net = CNN((1, 8, 8), (3,), channels=(8, 16))
    Dropout(p=0.5).attach(net)
    net.eval()
    x = torch.randn(2, 1, 8, 8)
    assert not torch.equal(net(x), net(x))
    dropped = Dropped(nn.Identity(), 0.5)(torch.ones(50, 4, 3, 3))
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(dropped.amax((2, 3)), dropped.amin((2, 3)))


def test_concrete_dropout_becomes_dropout_as_its_temperature_falls():
    torch.manual_seed(0)
    layer = ConcreteDropped(nn.Linear(1, 1, bias=False), 0.3, 0.0, 1e-4)
    layer.layer.weight.data.fill_(1.0)
    outputs = passes(layer, torch.ones(1, 1), 100_000).detach().flatten()
    assert float((outputs < 0.5).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert float(outputs.mean()) == pytest.approx(1.0, abs=0.01)


def test_its_divergence_by_hand_and_its_gradient():
    layer = ConcreteDropped(nn.Linear(2, 1), 0.2, 3.0, 0.1).double()
    layer.layer.weight.data = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    with torch.no_grad():
        layer.logit.fill_(math.log(0.2 / 0.8))
    information = -(0.2 * math.log(0.2) + 0.8 * math.log(0.8))
    want = 9 * 5 / (2 * 0.8) - 2 * information
    assert float(penalty(layer).detach()) == pytest.approx(want, rel=1e-12)
    # Without a prior on the weights the divergence is least where the entropy is largest, at p = 1/2.
    flat = ConcreteDropped(nn.Linear(2, 1), 0.5, 0.0, 0.1)
    (gradient,) = torch.autograd.grad(flat.penalty(), flat.logit)
    torch.testing.assert_close(gradient, torch.zeros(1), atol=1e-7, rtol=0)


@pytest.mark.parametrize("kind", [nn.Linear, partial(nn.Conv2d, kernel_size=3, padding=1)])
@pytest.mark.parametrize("init", ["signs", "normal"])
def test_a_batch_ensemble_is_its_members_written_out(kind, init):
    torch.manual_seed(0)
    layer = kind(3, 5)
    weight, x = layer.weight.detach().clone(), torch.randn(6, 3, *((4, 4) if layer.weight.dim() == 4 else ()))
    ensembled = Ensembled(layer, 2, init)
    with torch.no_grad():
        ensembled.bias.normal_()
    for k in range(2):
        own = weight * ensembled.outward[k].view(-1, *[1] * (weight.dim() - 1))
        own = own * ensembled.inward[k].view(1, -1, *[1] * (weight.dim() - 2))
        function = nn.functional.linear if weight.dim() == 2 else lambda *a: nn.functional.conv2d(*a, padding=1)
        rows = slice(3 * k, 3 * k + 3)
        torch.testing.assert_close(ensembled(x)[rows], function(x[rows], own, ensembled.bias[k]), rtol=1e-4, atol=1e-5)


def test_noise_goes_where_it_is_told():
    net = MLP((4,), (2,), width=8, depth=3)
    Dropout(layers=["hidden"]).attach(net)
    assert [type(part) for part in (net.first, *net.hidden, net.last)] == [nn.Linear, Dropped, Dropped, nn.Linear]
    both = MLP((4,), (2,), width=8, depth=2)
    inner = {"_target_": "modules.networks.stochastic.ConcreteDropout"}
    BatchEnsemble(members=3, dropout=inner).attach(both)
    assert isinstance(both.first, Ensembled)
    assert isinstance(both.last, ConcreteDropped)
    assert isinstance(both.last.layer, Ensembled)
    assert passes(both, torch.randn(5, 4), 6).shape == (6, 5, 2)
    assert penalty(both).requires_grad


def test_bad_values():
    with pytest.raises(UserError, match=r"noise\.p=1"):
        Dropout(p=1.0)
    with pytest.raises(UserError, match="length scale"):
        ConcreteDropout(length_scale=-1.0)
    with pytest.raises(UserError, match="at least one member"):
        BatchEnsemble(members=0)
    with pytest.raises(UserError, match="no such layer"):
        Dropout(layers=["nowhere"]).attach(MLP((4,), (2,)))
    with pytest.raises(ValueError, match="do not divide"):
        Ensembled(nn.Linear(2, 2), 2, "signs")(torch.ones(3, 2))
