"""MeZO against its algorithm written out, and against what is known of its directions."""

from __future__ import annotations

import copy

import pytest
import torch

from compendium.errors import UserError
from compendium.seeding import derive
from modules.optimization.mezo import MeZO
from tests.modules.optimization.test_soap import weights
from tests.modules.test_contract import planned, trained

SHAPES = [(4, 3), (5,), (), (2, 3, 2)]


def directions(step: int, seed: int = 0, shapes=SHAPES):
    """z as the docstring says: a standard normal from the seed of (seed, step, place)."""
    seeds = [derive(seed, "direction", step, place) for place in range(len(shapes))]
    return [
        torch.randn(shape, generator=torch.Generator().manual_seed(each), dtype=torch.float64)
        for shape, each in zip(shapes, seeds, strict=True)
    ]


def bowl(parameters):
    """sum_i (i + 1) |theta_i|^2 / 2 + |theta_i|^4 / 10: neither quadratic nor alike in its tensors."""
    parts = [(i + 1) * p.square().sum() / 2 + p.square().sum() ** 2 / 10 for i, p in enumerate(parameters)]
    return torch.stack(parts).sum()


def test_is_the_algorithm_written_out():
    lr, eps, decay = 0.003, 1e-2, 0.2
    parameters = weights(SHAPES)
    theta = [parameter.detach().clone() for parameter in parameters]
    optimizer = MeZO(parameters, lr=lr, eps=eps, weight_decay=decay, seed=5)
    for step in range(12):
        loss = optimizer.step(lambda: bowl(parameters))
        z = directions(step, seed=5)
        above = bowl([t + eps * d for t, d in zip(theta, z, strict=True)])
        below = bowl([t - eps * d for t, d in zip(theta, z, strict=True)])
        slope = (above - below) / (2 * eps)
        theta = [(1 - lr * decay) * t - lr * slope * d for t, d in zip(theta, z, strict=True)]
        torch.testing.assert_close(loss, above, rtol=1e-12, atol=1e-12)
    for one, other in zip(parameters, theta, strict=True):
        torch.testing.assert_close(one.detach(), other, rtol=1e-10, atol=1e-10)


def test_on_a_quadratic_its_step_is_the_gradient_along_the_direction():
    """Central differences of a quadratic are exact at any distance: theta - lr z z^T (H theta)."""
    matrix = torch.diag(torch.tensor([1.0, 2, 3, 4, 5], dtype=torch.float64))
    (theta,) = weights([(5,)])
    expected = theta.detach().clone()
    optimizer = MeZO([theta], lr=0.1, eps=0.5)
    for step in range(10):
        optimizer.step(lambda: theta @ matrix @ theta / 2)
        (z,) = directions(step, shapes=[(5,)])
        expected = expected - 0.1 * z * (z @ matrix @ expected)
    torch.testing.assert_close(theta.detach(), expected, rtol=1e-10, atol=1e-10)


def test_weights_that_are_not_trained_now_stay_and_the_others_step_as_they_would():
    """Their directions are those of their places, whoever else is trained."""
    parameters = weights(SHAPES)
    start = [parameter.detach().clone() for parameter in parameters]
    optimizer = MeZO(parameters, lr=0.01, eps=1e-2)
    parameters[1].requires_grad_(False)
    optimizer.step(lambda: bowl(parameters))
    assert torch.equal(parameters[1], start[1])
    z = directions(0)
    apart = [torch.zeros_like(d) if place == 1 else d for place, d in enumerate(z)]
    above, below = (bowl([t + side * d for t, d in zip(start, apart, strict=True)]) for side in (0.01, -0.01))
    for place in (0, 2):
        expected = start[place] - 0.01 * (above - below) / 0.02 * z[place]
        torch.testing.assert_close(parameters[place].detach(), expected, rtol=1e-10, atol=1e-10)


def test_the_mean_step_is_the_gradient():
    """The covariance of g z is (|a|^2 I + a a^T) for a loss a^T theta: the mean of n steps is a up to 1 / sqrt(n)."""
    slope = torch.tensor([1.0, -2, 0.5], dtype=torch.float64)
    theta = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer, count = MeZO([theta], lr=1.0), 4000
    for _ in range(count):
        optimizer.step(lambda: slope @ theta)
    error = theta.detach() / -count - slope
    spread = ((slope @ slope + slope.square()) / count).sqrt()
    assert (error.abs() < 4 * spread).all()


def test_continues_from_its_state_to_the_same_bits_and_has_no_tensor_in_it():
    whole, half = weights(SHAPES, torch.float32), weights(SHAPES, torch.float32)
    one = MeZO(whole, lr=0.005)
    first = MeZO(half, lr=0.005)
    for _ in range(7):
        one.step(lambda: bowl(whole))
        first.step(lambda: bowl(half))
    taken = copy.deepcopy(first.state_dict())
    assert taken["state"] == {0: {"step": 7}}
    second = MeZO(half, lr=0.005)
    second.load_state_dict(taken)
    for _ in range(6):
        one.step(lambda: bowl(whole))
        second.step(lambda: bowl(half))
    assert all(torch.equal(a, b) for a, b in zip(whole, half, strict=True))


def test_each_tensor_step_and_seed_has_directions_of_its_own():
    like = torch.zeros(50)
    drawn = [
        MeZO([torch.nn.Parameter(like)], seed=seed).direction(like, step, place)
        for seed in (0, 1)
        for step in (0, 1)
        for place in (0, 1)
    ]
    assert len({tuple(each.tolist()) for each in drawn}) == 8


def test_evaluates_both_sides_in_the_precision_of_the_training(tmp_path, monkeypatch):
    """In bfloat16 both losses are of rounded layers, or their difference would be that of the roundings."""
    seen: list[torch.dtype] = []
    slope = MeZO.slope
    monkeypatch.setattr(MeZO, "slope", lambda self, a, b: seen.append((a, b)) or slope(self, a, b))
    run = planned(
        "supervised/classifier",
        tmp_path,
        "data=wine",
        "net=mlp",
        "net.width=8",
        "optimizer=mezo",
        "optimizer.eps=1e-30",
        "trainer.precision=bf16-mixed",
    )
    trained(run)
    assert seen
    assert all(torch.equal(above, below) for above, below in seen)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": -1.0}, r"optimizer\.lr=-1"),
        ({"eps": 0.0}, r"optimizer\.eps=0"),
        ({"weight_decay": -0.1}, r"optimizer\.weight_decay"),
    ],
)
def test_values_out_of_range_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        MeZO(weights(), **arguments)
