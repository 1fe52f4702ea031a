"""The pendulum and the expert by hand, energy, and the loss on the policy's own states."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.optimization.online_imitation import OnlineImitation, expert, observed, swing

SPEC = DataSpec("starts", "vector", (2,))


def method(horizon=5):
    return OnlineImitation(SPEC, horizon=horizon, net=nn.Linear(3, 1)).double()


def test_a_moment_by_hand():
    """From a quarter turn at rest with a torque of 1: v = (15 + 3) 0.05 = 0.9, angle pi/2 + 0.045; bounds hold."""
    state = torch.tensor([[math.pi / 2, 0.0], [0.0, 7.99]]).double()
    after = swing(state, torch.tensor([1.0, 100.0]).double())
    torch.testing.assert_close(after, torch.tensor([[math.pi / 2 + 0.045, 0.9], [0.4, 8.0]]).double())


def test_the_expert_swings_it_up_and_keeps_it_there():
    state = torch.tensor([[math.pi, 0.1], [2.0, -1.0], [0.1, 0.0]]).double()
    for _ in range(400):
        state = swing(state, expert(state))
    assert float(state[:, 0].cos().min()) > 0.999
    assert float(state[:, 1].abs().max()) < 0.01


def test_the_expert_by_hand():
    """Hanging with velocity v: e = v^2 / 2 - 30, hence tanh(-e v / 2) of full torque along v."""
    v = 0.1
    got = expert(torch.tensor([[math.pi, v]], dtype=torch.float64))
    near = 1 / (1 + math.exp(20 * 1.9))
    energy = 0.5 * v**2 - 30
    assert float(got) == pytest.approx(2 * math.tanh((1 - near) * -0.5 * energy * v + near * -3 * v), rel=1e-9)


def test_the_loss_is_of_the_states_that_the_policy_visits_and_they_are_constants():
    one, x = method(3), torch.randn(4, 2).double()
    with torch.no_grad():
        first = swing(x, one.net(observed(x))[:, 0])
        second = swing(first, one.net(observed(first))[:, 0])
    states = torch.cat([x, first, second])
    torch.testing.assert_close(one.visited(x), states)
    expected = 0.5 * ((one.net(observed(states))[:, 0] - expert(states)) ** 2).mean()
    weight, bias = torch.autograd.grad(expected, list(one.net.parameters()))
    loss = one.loss(Unlabelled(x))
    torch.testing.assert_close(loss, expected)
    loss.backward()
    torch.testing.assert_close(one.net.weight.grad, weight)
    torch.testing.assert_close(one.net.bias.grad, bias)


def test_figures_are_of_each_start():
    one, x = method(7), torch.randn(4, 2).double()
    figures = one.imitation(x)
    assert all(value.shape == (4,) for value in figures.values())
    torch.testing.assert_close(figures["disagreement"].mean(), one.loss(Unlabelled(x)))
    alone = one.imitation(x[2:3])
    for name, value in figures.items():
        torch.testing.assert_close(alone[name][0], value[2])


def test_bad_input_is_refused():
    with pytest.raises(UserError, match=r"model\.horizon"):
        method(0)
    with pytest.raises(UserError, match="angle and a velocity"):
        OnlineImitation(DataSpec("three", "vector", (3,)), net=nn.Linear(3, 1))
