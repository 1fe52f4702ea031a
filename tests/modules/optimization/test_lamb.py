"""LAMB against its definition written out, against AdamW, and against an independent implementation."""

from __future__ import annotations

import pytest
import torch
from pytorch_optimizer import Lamb as Theirs

from compendium.errors import UserError
from modules.optimization.lamb import LAMB
from tests.modules.optimization.contract import keeps_the_contract
from tests.modules.optimization.test_soap import SHAPES, gradients, walk, weights


def written_out(w, steps, lr, beta1, beta2, eps, decay, lower, upper):
    """One layer, in the order of the paper's algorithm."""
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    for t, g in enumerate(steps, 1):
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        u = (m / (1 - beta1**t)) / ((v / (1 - beta2**t)) ** 0.5 + eps) + decay * w
        w = w - lr * min(max(float(w.norm()), lower), upper) / u.norm() * u
    return w


@pytest.mark.parametrize(("lower", "upper"), [(0.0, None), (0.5, 1.5)])
def test_is_the_algorithm_written_out(lower, upper):
    parameters, steps = weights(), gradients(13)
    start = [parameter.detach().clone() for parameter in parameters]
    arguments = {"lr": 0.05, "eps": 1e-3, "weight_decay": 0.3, "lower": lower, "upper": upper, "vectors": True}
    walk(LAMB(parameters, betas=(0.8, 0.9), **arguments), parameters, steps)
    for index, first in enumerate(start):
        slopes = [step[index] for step in steps]
        bound = float("inf") if upper is None else upper
        expected = written_out(first, slopes, 0.05, 0.8, 0.9, 1e-3, 0.3, lower, bound)
        torch.testing.assert_close(parameters[index].detach(), expected, rtol=1e-11, atol=1e-11)


def test_vectors_are_adams_without_decay():
    ours, adam, steps = weights(), weights(), gradients(13)
    walk(LAMB(ours, lr=0.1, eps=1e-3, weight_decay=0.3), ours, steps)
    walk(torch.optim.Adam(adam, lr=0.1, eps=1e-3), adam, steps)
    for index, shape in enumerate(SHAPES):
        assert torch.allclose(ours[index], adam[index], rtol=1e-12, atol=1e-12) == (len(shape) < 2)


def test_with_a_trust_ratio_of_one_it_is_adamw():
    ours, adam, steps = weights(), weights(), gradients(20)
    arguments = {"lr": 0.05, "betas": (0.9, 0.97), "eps": 1e-4, "weight_decay": 0.2}
    walk(LAMB(ours, vectors=True, layerwise=False, **arguments), ours, steps)
    walk(torch.optim.AdamW(adam, **arguments), adam, steps)
    for one, other in zip(ours, adam, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


def test_agrees_with_an_independent_implementation_for_a_hundred_steps():
    """Theirs has no correction of bias in u, which the length of a step cancels where eps and the decay of u are 0.

    It divides the rate by 1 - beta1^t, unless `adam_debias` is set, decays weights beside u and bounds |x| by 10.
    """
    ours, theirs, steps = weights(), weights(), gradients(100)
    arguments = {"lr": 0.01, "betas": (0.9, 0.99), "eps": 1e-30, "weight_decay": 0.0}
    walk(LAMB(ours, vectors=True, upper=10.0, **arguments), ours, steps)
    walk(Theirs(theirs, adam_debias=True, **arguments), theirs, steps)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_a_step_has_the_length_of_its_layer():
    """|step| = lr |x|, however large the gradient: what makes large batches safe."""
    for factor in (1e-6, 1.0, 1e6):
        parameters = weights([(5, 4)])
        start = parameters[0].detach().clone()
        walk(LAMB(parameters, lr=0.02, eps=0.0), parameters, [[factor * gradients(1, [(5, 4)])[0][0]]])
        torch.testing.assert_close((parameters[0] - start).norm(), 0.02 * start.norm(), rtol=1e-12, atol=0.0)


def test_layers_of_zeros_begin_to_move():
    parameters = [torch.nn.Parameter(torch.zeros(3, 2))]
    walk(LAMB(parameters, lr=0.1, eps=0.0), parameters, [[torch.ones(3, 2)]])
    torch.testing.assert_close(parameters[0].detach(), torch.full((3, 2), -0.1))


def test_zero_gradients_move_nothing():
    parameters = weights([(4, 3)], torch.float32)
    start = parameters[0].detach().clone()
    walk(LAMB(parameters, weight_decay=0.0), parameters, [[torch.zeros(4, 3)]] * 3)
    assert torch.equal(parameters[0], start)


def test_keeps_the_contract_of_optimizers():
    keeps_the_contract(lambda parameters: LAMB(parameters, lr=0.01))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": -1.0}, r"optimizer\.lr=-1.0: it is at least 0\."),
        ({"eps": float("nan")}, r"optimizer\.eps=nan"),
        ({"betas": (0.9, 1.0)}, r"optimizer\.betas"),
        ({"lower": 2.0, "upper": 1.0}, r"optimizer\.upper=1\.0: it is at least optimizer\.lower=2\.0"),
    ],
)
def test_values_out_of_range_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        LAMB(weights(), **arguments)
