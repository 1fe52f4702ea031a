"""Lion-K against its definition, an independent Lion, the conjugates of K, its Lyapunov function and its optimum."""

from __future__ import annotations

import pytest
import torch
from pytorch_optimizer import Lion as Theirs

from compendium.errors import UserError
from modules.optimization.lion_k import GRADIENTS, LionK
from tests.modules.optimization.contract import keeps_the_contract
from tests.modules.optimization.test_soap import gradients, walk, weights

SETTINGS = {"p": 3.0, "e": 0.4, "share": 0.3}
K = {
    "l1": lambda x: x.abs().sum(),
    "lp": lambda x: (x.abs() ** 3).sum() ** (1 / 3),
    "group": lambda x: x.norm(dim=1).sum(),
    "threshold": lambda x: (x.abs() - 0.4).clamp(min=0).sum(),
    "sorted": lambda x: x.abs().flatten().sort(descending=True).values[:6].sum(),
    "huber": lambda x: torch.nn.functional.huber_loss(x, torch.zeros_like(x), delta=0.4, reduction="sum") / 0.4,
}
"""Of a matrix of 5 x 4, whose share of 0.3 is 6 entries."""


@pytest.mark.parametrize("kappa", sorted(K))
def test_steps_along_the_gradient_of_k(kappa):
    """By automatic differentiation of K."""
    parameters, steps = weights([(5, 4)]), gradients(13, [(5, 4)])
    w, m = parameters[0].detach().clone(), torch.zeros(5, 4, dtype=torch.float64)
    arguments = {"lr": 0.1, "betas": (0.8, 0.9), "weight_decay": 0.3}
    walk(LionK(parameters, kappa=kappa, **arguments, **SETTINGS), parameters, steps)
    for (g,) in steps:
        along = (0.8 * m + 0.2 * g).requires_grad_()
        (slope,) = torch.autograd.grad(K[kappa](along), along)
        w, m = (1 - 0.1 * 0.3) * w - 0.1 * slope, 0.9 * m + 0.1 * g
    torch.testing.assert_close(parameters[0].detach(), w, rtol=1e-10, atol=1e-10)


def test_every_function_is_tested():
    assert set(K) == set(GRADIENTS)


@pytest.mark.parametrize("kappa", sorted(K))
def test_pieces_of_any_size_give_the_same_bits(monkeypatch, kappa):
    """Of a function of single entries; of others a tensor stays whole."""
    whole, cut, steps = weights([(7, 5), (3,)]), weights([(7, 5), (3,)]), gradients(5, [(7, 5), (3,)])
    walk(LionK(whole, kappa=kappa, **SETTINGS), whole, steps)
    monkeypatch.setattr(LionK, "most_on_host", 8)
    optimizer = LionK(cut, kappa=kappa, **SETTINGS)
    walk(optimizer, cut, steps)
    assert all(torch.equal(one, other) for one, other in zip(whole, cut, strict=True))
    assert optimizer.state[cut[0]]["first"].shape == (7, 5)


def test_agrees_with_an_independent_lion_for_a_hundred_steps():
    ours, theirs, steps = weights(), weights(), gradients(100)
    arguments = {"lr": 0.01, "betas": (0.9, 0.95), "weight_decay": 0.3}
    walk(LionK(ours, **arguments), ours, steps)
    walk(Theirs(theirs, **arguments), theirs, steps)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


def test_the_two_norm_with_a_constant_gradient_has_a_closed_form():
    """Each step is along g / |g|: theta_t = (1 - lr lambda)^t theta_0 - (1 - (1 - lr lambda)^t) g / (lambda |g|)."""
    parameters, slope = weights([(5, 4)]), gradients(1, [(5, 4)])[0][0]
    start, shrink = parameters[0].detach().clone(), (1 - 0.1 * 0.5) ** 30
    walk(LionK(parameters, lr=0.1, weight_decay=0.5, kappa="lp", p=2.0), parameters, [[slope]] * 30)
    expected = shrink * start - (1 - shrink) * slope / (0.5 * slope.norm())
    torch.testing.assert_close(parameters[0].detach(), expected, rtol=1e-12, atol=1e-12)


def test_p_of_one_is_lion_and_one_row_is_the_two_norm():
    for one, other in (({"kappa": "lp", "p": 1.0}, {"kappa": "l1"}), ({"kappa": "group"}, {"kappa": "lp"})):
        left, right, steps = weights([(7,)]), weights([(7,)]), gradients(12, [(7,)])
        walk(LionK(left, lr=0.1, **one), left, steps)
        walk(LionK(right, lr=0.1, **other), right, steps)
        torch.testing.assert_close(left[0], right[0], rtol=1e-12, atol=1e-12)


def quadratic():
    """f(x) = (x - b)' A (x - b) / 2 in six dimensions."""
    draw = torch.Generator().manual_seed(3)
    root = torch.randn(6, 6, generator=draw, dtype=torch.float64) / 2
    matrix, centre = root @ root.T + 0.2 * torch.eye(6), torch.randn(6, generator=draw, dtype=torch.float64)
    return lambda x: (x - centre) @ matrix @ (x - centre) / 2, lambda x: matrix @ (x - centre)


@pytest.mark.parametrize("kappa", ["lp", "huber"])
def test_the_lyapunov_function_falls(kappa):
    """H = gamma f + (gamma / lambda) K* + (1 - eps gamma) / (1 + eps lambda) (K* + K(m) - lambda m x), K* at lambda x,
    of the limit of small steps, with gamma = (1 - beta2) / lr, eps = (1 - beta1) / gamma and m in the sign of descent.
    """
    f, slope = quadratic()
    rate, gamma, beta1, decay, e = 5e-4, 1.5, 0.7, 0.8, 0.4
    eps = (1 - beta1) / gamma
    x = torch.nn.Parameter(torch.full((6,), 0.2, dtype=torch.float64))
    settings = {"kappa": kappa, "p": 2.0, "e": e}
    optimizer = LionK([x], lr=rate, betas=(beta1, 1 - gamma * rate), weight_decay=decay, **settings)

    def kinetic(m):
        return m.norm() if kappa == "lp" else K["huber"](m)

    def conjugate(y):
        assert (y.norm() if kappa == "lp" else y.abs().max()) <= 1
        return 0.0 if kappa == "lp" else e * float(y @ y) / 2

    def lyapunov(m):
        here = decay * x.detach()
        coupling = conjugate(here) + kinetic(m) - float(m @ here)
        weight = (1 - eps * gamma) / (1 + eps * decay)
        return float(gamma * f(x.detach()) + gamma / decay * conjugate(here) + weight * coupling)

    values = [lyapunov(torch.zeros(6, dtype=torch.float64))]
    for _ in range(800):
        x.grad = slope(x.detach())
        optimizer.step()
        values.append(lyapunov(-optimizer.state[x]["first"]))
    rises = torch.tensor(values).diff()
    assert rises.max() <= 20 * rate**2  # what a step of Euler's may be off by
    assert values[0] - values[-1] > 0.5


@pytest.mark.parametrize("kappa", ["l1", "lp"])
def test_ends_at_the_constrained_optimum(kappa):
    """min f within |x|_inf <= 1 / lambda (l1), |x|_2 <= 1 / lambda (lp): by projected gradients."""
    f, slope = quadratic()
    bound = 0.8
    x = torch.nn.Parameter(torch.full((6,), 3.0, dtype=torch.float64))  # begins outside
    optimizer = LionK([x], lr=1.0, betas=(0.9, 0.95), weight_decay=1 / bound, kappa=kappa)
    for step in range(1500):
        optimizer.param_groups[0]["lr"] = 0.05 * 0.995**step
        x.grad = slope(x.detach())
        optimizer.step()
    best = torch.zeros(6, dtype=torch.float64)
    for _ in range(1500):
        best = best - 0.1 * slope(best)
        best = best.clamp(-bound, bound) if kappa == "l1" else best * min(1.0, bound / float(best.norm()))
    torch.testing.assert_close(x.detach(), best, rtol=0, atol=1e-3)
    assert x.detach().abs().max() <= bound + 1e-4
    assert kappa == "lp" or 0 < (best.abs() < bound - 0.01).sum() < 6  # some within, some at the bound
    assert float(best.abs().max() if kappa == "l1" else best.norm()) == pytest.approx(bound)


def test_the_distance_to_the_box_decays_geometrically():
    """Outside, each step brings max |x| at least as near to 1 / lambda as (1 - lr lambda) does."""
    parameters, steps = weights([(5, 4)]), gradients(40, [(5, 4)])
    with torch.no_grad():
        parameters[0].mul_(10)
    far = float(parameters[0].detach().abs().max()) - 2
    optimizer = LionK(parameters, lr=0.1, weight_decay=0.5)
    for count, step in enumerate(steps, 1):
        walk(optimizer, parameters, [step])
        assert float(parameters[0].detach().abs().max()) - 2 <= (1 - 0.05) ** count * far + 1e-12


@pytest.mark.parametrize("kappa", sorted(GRADIENTS))
def test_zero_gradients_move_nothing(kappa):
    parameters = weights([(4, 3)], torch.float32)
    start = parameters[0].detach().clone()
    walk(LionK(parameters, weight_decay=0.0, kappa=kappa), parameters, [[torch.zeros(4, 3)]] * 3)
    assert torch.equal(parameters[0], start)


@pytest.mark.parametrize("kappa", sorted(GRADIENTS))
def test_keeps_the_contract_of_optimizers(kappa):
    keeps_the_contract(lambda parameters: LionK(parameters, lr=0.01, kappa=kappa))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": -1.0}, r"optimizer\.lr=-1"),
        ({"betas": (0.9,)}, r"optimizer\.betas"),
        ({"kappa": "l3"}, r"optimizer\.kappa=l3"),
        ({"p": 0.5}, r"optimizer\.p=0\.5"),
        ({"e": 0.0}, r"optimizer\.e=0"),
        ({"share": 0.0}, r"optimizer\.share=0"),
    ],
)
def test_values_out_of_range_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        LionK(weights(), **arguments)
