"""LARS against its definition written out, and against SGD."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from modules.optimization.lars import LARS
from tests.modules.optimization.contract import keeps_the_contract
from tests.modules.optimization.test_soap import SHAPES, gradients, walk, weights


def test_is_the_algorithm_written_out():
    parameters, steps = weights(), gradients(13)
    start = [parameter.detach().clone() for parameter in parameters]
    walk(LARS(parameters, lr=0.05, momentum=0.8, weight_decay=0.3, upper=1.5), parameters, steps)
    for index, w in enumerate(start):
        if w.dim() < 2:
            continue
        m = torch.zeros_like(w)
        for step in steps:
            m = 0.8 * m + 0.2 * (step[index] + 0.3 * w)
            w = w - 0.05 * min(float(w.norm()), 1.5) / m.norm() * m
        torch.testing.assert_close(parameters[index].detach(), w, rtol=1e-11, atol=1e-11)


def test_vectors_are_those_of_sgd():
    ours, sgd, steps = weights(), weights(), gradients(20)
    walk(LARS(ours, lr=0.05, momentum=0.8, weight_decay=0.3), ours, steps)
    plain = torch.optim.SGD(sgd, lr=0.05, momentum=0.8)
    walk(plain, sgd, [[0.2 * slope for slope in step] for step in steps])
    for index, shape in enumerate(SHAPES):
        assert torch.allclose(ours[index], sgd[index], rtol=1e-11, atol=1e-11) == (len(shape) < 2)


def test_keeps_the_contract_of_optimizers():
    keeps_the_contract(lambda parameters: LARS(parameters, lr=0.01))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"weight_decay": -1.0}, r"optimizer\.weight_decay=-1"), ({"momentum": 1.0}, r"optimizer\.momentum=1\.0")],
)
def test_values_out_of_range_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        LARS(weights(), **arguments)
