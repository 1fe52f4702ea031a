"""Fira against its definition written out, against Adam, and against an independent implementation."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from pytorch_optimizer import Fira as Theirs

from compendium.errors import UserError
from modules.optimization.fira import Fira
from tests.modules.optimization.contract import keeps_the_contract
from tests.modules.optimization.test_galore import SHAPES
from tests.modules.optimization.test_soap import gradients, walk, weights


def written_out(w, steps, lr, beta1, beta2, eps, rank, refresh, scale, limit):
    """One matrix that is wider than high; norms of S without the correction of bias."""
    m, v = torch.zeros(rank, w.shape[1]).double(), torch.zeros(rank, w.shape[1]).double()
    before = None
    for t, g in enumerate(steps, 1):
        if (t - 1) % refresh == 0:
            p = torch.linalg.svd(g)[0][:, :rank]
        r = p.T @ g
        m, v = beta1 * m + (1 - beta1) * r, beta2 * v + (1 - beta2) * r**2
        psi = m / (1 - beta1**t) / ((v / (1 - beta2**t)) ** 0.5 + eps)
        correction = (1 - beta2**t) ** 0.5 / (1 - beta1**t)
        rest = (g - p @ r) * psi.norm(dim=0) / r.norm(dim=0)
        size = rest.norm() / correction
        if before is not None and size > limit * before:
            rest, size = rest * (limit * before / size), limit * before
        before = size
        w = w - lr * scale * (p @ psi + rest)
    return w


@pytest.mark.parametrize("limit", [1.01, 1.5])
def test_is_the_algorithm_written_out(limit):
    parameters, steps = weights(SHAPES), gradients(13, SHAPES)
    start = [parameter.detach().clone() for parameter in parameters]
    arguments = {"eps": 1e-3, "rank": 2, "refresh": 5, "scale": 0.4, "limit": limit}
    walk(Fira(parameters, lr=0.1, betas=(0.8, 0.9), **arguments), parameters, steps)
    for index in (0, 2, 3, 4):
        turn = index in (0, 3)

        def lie(x, turn=turn):
            return x.T if turn else x.flatten(1)

        slopes = [lie(step[index]) for step in steps]
        expected = written_out(lie(start[index]), slopes, 0.1, 0.8, 0.9, 1e-3, 2, 5, 0.4, limit)
        torch.testing.assert_close(lie(parameters[index].detach()), expected, rtol=1e-9, atol=1e-9)


def test_at_full_rank_it_is_adam():
    ours, adam, steps = weights(SHAPES), weights(SHAPES), gradients(20, SHAPES)
    walk(Fira(ours, lr=0.05, betas=(0.9, 0.97), eps=1e-4, rank=6), ours, steps)
    walk(torch.optim.Adam(adam, lr=0.05, betas=(0.9, 0.97), eps=1e-4), adam, steps)
    for one, other in zip(ours, adam, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


def test_agrees_with_an_independent_implementation_for_a_hundred_steps():
    """At a scale of 1; theirs decomposes in float32."""
    shapes = [(5, 4), (3, 6)]
    ours, theirs, steps = weights(shapes), weights(shapes), gradients(100, shapes)
    shared = {"lr": 0.01, "betas": (0.9, 0.99), "eps": 1e-30}
    walk(Fira(ours, rank=2, refresh=1000, scale=1.0, **shared), ours, steps)
    group = {"params": theirs, "rank": 2, "update_proj_gap": 1000, "scale": 1.0, "projection_type": "std"}
    walk(Theirs([group], **shared), theirs, steps)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=5e-5)


def test_the_rest_grows_by_the_limit_at_most():
    parameters, steps = weights([(6, 9)]), gradients(12, [(6, 9)])
    steps[6][0] *= 1000
    optimizer, sizes = Fira(parameters, rank=2, refresh=100), []
    for step in steps:
        walk(optimizer, parameters, [step])
        sizes.append(float(optimizer.state[parameters[0]]["size"]))
    assert all(after <= 1.01 * before * (1 + 1e-12) for before, after in pairwise(sizes))


def test_steps_are_of_full_rank_from_a_state_of_low_rank():
    parameters = weights([(6, 9)])
    start = parameters[0].detach().clone()
    optimizer = Fira(parameters, rank=2)
    walk(optimizer, parameters, gradients(1, [(6, 9)]))
    assert torch.linalg.matrix_rank(parameters[0].detach() - start) == 6
    numbers = sum(value.numel() for value in optimizer.state[parameters[0]].values() if isinstance(value, torch.Tensor))
    assert numbers == (6 + 2 * 9) * 2 + 1


def test_zero_gradients_move_nothing():
    parameters = weights([(4, 3)], torch.float32)
    start = parameters[0].detach().clone()
    walk(Fira(parameters, rank=1), parameters, [[torch.zeros(4, 3)]] * 5)
    assert torch.equal(parameters[0], start)


def test_keeps_the_contract_of_optimizers():
    keeps_the_contract(lambda parameters: Fira(parameters, lr=0.01, rank=2, refresh=3), SHAPES)


def test_values_out_of_range_are_refused():
    with pytest.raises(UserError, match=r"optimizer\.limit=0\.5"):
        Fira(weights(), limit=0.5)
