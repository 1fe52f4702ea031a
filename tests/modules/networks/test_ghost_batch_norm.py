"""Ghost batch normalisation against torch's, part by part, and in networks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from compendium.errors import UserError
from modules.networks.cnn import CNN
from modules.networks.ghost_batch_norm import GhostBatchNorm
from modules.networks.mlp import MLP

GHOST = {"_target_": "modules.networks.ghost_batch_norm.GhostBatchNorm", "size": 4, "momentum": 0.1, "eps": 1e-5}
SHAPES = [(12, 3), (12, 3, 5, 4)]


def pair(size, **arguments):
    """A ghost and torch's own, in float64, with the same random weights."""
    ghost = GhostBatchNorm(3, size, **arguments).double()
    torchs = (nn.BatchNorm1d(3, **arguments), nn.BatchNorm2d(3, **arguments))
    for parameter in ghost.parameters():
        nn.init.normal_(parameter)
    for one in torchs:
        one.double().load_state_dict(ghost.state_dict(), strict=False)
    return ghost, torchs


def records(shape, seed=0):
    return 3 + 2 * torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [12, 7, 100, None])
def test_one_part_is_batch_normalisation(shape, size):
    ghost, torchs = pair(size, momentum=0.3, eps=1e-3)
    theirs = torchs[len(shape) == 4]
    for step in range(3):
        x = records(shape, step).requires_grad_()
        y = x.detach().clone().requires_grad_()
        a, b = ghost(x), theirs(y)
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
        a.square().mul(records(shape, 9)).sum().backward()
        b.square().mul(records(shape, 9)).sum().backward()
        torch.testing.assert_close(x.grad, y.grad)
    for name in ("weight", "bias"):
        torch.testing.assert_close(getattr(ghost, name).grad, getattr(theirs, name).grad)
    ghost.eval(), theirs.eval()
    torch.testing.assert_close(ghost(records(shape, 5)), theirs(records(shape, 5)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_many_parts_are_batch_normalisation_of_each_one_after_another(shape):
    ghost, torchs = pair(4, momentum=0.3)
    theirs = torchs[len(shape) == 4]
    for step in range(3):
        x = records(shape, step)
        found = ghost(x)
        for part in range(3):
            torch.testing.assert_close(found[part::3], theirs(x[part::3]), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ghost.running_mean, theirs.running_mean)
    torch.testing.assert_close(ghost.running_var, theirs.running_var)


def test_the_running_mean_is_the_papers_sum():
    """(1 - m)^K mu + sum_k m (1 - m)^(K - k) mu_k with part means 1, 2, 3, mu = 0 and m = 0.5: 0.125 + 0.5 + 1.5."""
    ghost = GhostBatchNorm(1, 2, momentum=0.5)
    ghost(torch.tensor([[0.0], [1.0], [2.0], [2.0], [3.0], [4.0]]))
    assert ghost.running_mean.tolist() == [0.125 * 1 + 0.25 * 2 + 0.5 * 3]
    assert ghost.running_var.tolist() == [0.125 + 2 * (0.125 + 0.25 + 0.5)]  # each part varies by 2, unbiased


def test_what_is_left_over_is_spread_over_the_parts():
    """11 records in parts of 4: two, of 6 and of 5."""
    ghost, (theirs, _) = pair(4)
    x = records((11, 3))
    found = ghost(x)
    torch.testing.assert_close(found[:6], theirs(x[:6]))
    torch.testing.assert_close(found[6:], theirs(x[6:]))
    torch.testing.assert_close(ghost.running_var, theirs.running_var)


def test_a_value_has_no_variance():
    with pytest.raises(UserError, match="no variance"):
        GhostBatchNorm(3, 1)(torch.randn(4, 3))
    assert GhostBatchNorm(3, 1)(torch.randn(4, 3, 2, 2)).isfinite().all()  # pixels vary
    for arguments, message in (({"size": 0}, "size=0"), ({"momentum": 2.0}, "momentum=2")):
        with pytest.raises(UserError, match=message):
            GhostBatchNorm(3, **arguments)


@pytest.mark.parametrize("kind", [CNN, MLP])
def test_networks_take_it_by_config_and_are_what_they_were_without(kind):
    small = {"channels": [4, 6]} if kind is CNN else {"width": 6, "depth": 3}
    shape = (1, 8, 8)
    with_ghosts = kind(shape, (10,), **small, norm=GHOST)
    ghosts = [module for module in with_ghosts.modules() if isinstance(module, GhostBatchNorm)]
    assert len(ghosts) == (5 if kind is CNN else 3)
    x = torch.randn(8, *shape)
    with_ghosts(x).square().sum().backward()
    assert all(ghost.weight.grad.abs().sum() for ghost in ghosts)
    assert all((ghost.running_var != 1).all() for ghost in ghosts)
    torch.manual_seed(0)
    plain = kind(shape, (10,), **small)
    assert not [module for module in plain.modules() if isinstance(module, GhostBatchNorm)]
    assert bool([m for m in plain.modules() if isinstance(m, nn.GroupNorm)]) == (kind is CNN)
    assert with_ghosts.eval()(x).shape == plain(x).shape
