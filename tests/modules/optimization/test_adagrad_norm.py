"""AdaGradNorm against its definition written out, and against AdaGrad of one weight."""

from __future__ import annotations

import io

import pytest
import torch

from compendium.errors import UserError
from modules.optimization.adagrad_norm import AdaGradNorm
from tests.modules.optimization.test_soap import gradients, walk, weights


def test_is_the_definition_written_out():
    parameters, steps = weights(), gradients(12)
    expected, total = [p.detach().clone() for p in parameters], 0.3
    walk(AdaGradNorm(parameters, lr=0.7, initial=0.3, eps=1e-3, weight_decay=0.2), parameters, steps)
    for step in steps:
        step = [g + 0.2 * w for g, w in zip(step, expected, strict=True)]
        total += sum(float(g.square().sum()) for g in step)
        expected = [w - 0.7 * g / (total**0.5 + 1e-3) for w, g in zip(expected, step, strict=True)]
    for one, other in zip(parameters, expected, strict=True):
        torch.testing.assert_close(one.detach(), other, rtol=1e-9, atol=1e-12)


def test_of_one_weight_it_is_adagrad():
    ours, theirs, steps = weights([()]), weights([()]), gradients(100, [()])
    walk(AdaGradNorm(ours, lr=0.3, initial=0.1, weight_decay=0.1), ours, steps)
    walk(torch.optim.Adagrad(theirs, lr=0.3, initial_accumulator_value=0.1, weight_decay=0.1), theirs, steps)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_continues_from_its_state_to_the_same_bits_and_groups_have_their_own():
    steps = gradients(20, dtype=torch.float32)
    whole, half = weights(dtype=torch.float32), weights(dtype=torch.float32)

    def optimizer(parameters):
        return AdaGradNorm([{"params": parameters[:2]}, {"params": parameters[2:], "lr": 0.1}])

    walk(optimizer(whole), whole, steps)
    first = optimizer(half)
    walk(first, half, steps[:9])
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = optimizer(half)
    second.load_state_dict(torch.load(file, weights_only=True))
    walk(second, half, steps[9:])
    for one, other in zip(whole, half, strict=True):
        assert torch.equal(one, other)
    alone = weights(dtype=torch.float32)[:2]
    walk(AdaGradNorm(alone), alone, [step[:2] for step in steps])
    assert torch.equal(alone[0], whole[0])


def test_values_out_of_range_are_refused():
    with pytest.raises(UserError, match=r"optimizer\.lr=-1"):
        AdaGradNorm(weights(), lr=-1.0)
