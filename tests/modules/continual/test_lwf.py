"""Learning without Forgetting: its loss by hand, and what becomes of the teacher."""

from __future__ import annotations

import math

import pytest
import torch

from compendium.errors import UserError
from datamodules.batches import TaskBatch
from datamodules.spec import DataSpec
from modules.continual.lwf import LearningWithoutForgetting

SPEC = DataSpec(name="points", kind="vector", shape=(2,), target="class", classes=tuple("abc"))


def linear(**arguments):
    """A method whose logits are x W', with W = [[1, 0], [0, 1], [0, 0]]."""
    net = torch.nn.Linear(2, 3, bias=False)
    net.weight.data.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))
    return LearningWithoutForgetting(SPEC, net=net, **arguments)


def batch(x, y, task):
    return TaskBatch(torch.tensor([x]), torch.tensor([y]), torch.tensor([task]))


def test_the_first_task_is_cross_entropy_alone():
    terms = linear().loss(batch([0.0, 0.0], 0, 0))
    assert set(terms) == {"cross_entropy"}
    assert terms["cross_entropy"].item() == pytest.approx(math.log(3))


def test_distillation_by_hand():
    method = linear(distillation=0.5, temperature=2.0)
    method.loss(batch([0.0, 0.0], 0, 0))
    method.loss(TaskBatch(torch.zeros(1, 2), torch.tensor([1]), torch.tensor([0])))
    method.net.weight.data.zero_()  # what the first task has left
    method.begin(torch.tensor(1))
    method.net.weight.data.copy_(torch.tensor([[2.0, 0.0], [0.0, 0.0], [0.0, 0.0]]))
    terms = method.loss(batch([1.0, 0.0], 2, 1))
    # The teacher's logits of a and b are 0 and 0: p = 1/2, 1/2; the network's are 2 and 0, over T: 1, 0.
    log_z = math.log(math.e + 1)
    assert terms["distillation"].item() == pytest.approx(-0.5 * (0.5 * (1 - log_z) + 0.5 * (0 - log_z)), abs=1e-6)
    assert terms["cross_entropy"].item() == pytest.approx(math.log(math.exp(2) + 2), abs=1e-6)


def test_a_teacher_that_agrees_has_no_gradient():
    method = linear()
    method.loss(batch([0.3, -1.0], 0, 0))
    method.loss(batch([0.3, -1.0], 1, 0))
    terms = method.loss(batch([0.7, 0.2], 2, 1))
    (gradient,) = torch.autograd.grad(terms["distillation"], method.net.weight)
    torch.testing.assert_close(gradient, torch.zeros(3, 2), atol=1e-7, rtol=0)


def test_the_teacher_stays_while_the_task_lasts_and_is_no_parameter_to_train():
    method = linear()
    method.loss(batch([1.0, 0.0], 0, 0))
    before = method.teacher.weight.clone()
    method.net.weight.data.add_(1.0)
    method.loss(batch([1.0, 0.0], 0, 0))
    assert torch.equal(method.teacher.weight, before)
    method.loss(batch([1.0, 0.0], 1, 1))
    assert torch.equal(method.teacher.weight, before + 1.0)
    assert not method.teacher.weight.requires_grad
    assert method.old.tolist() == [True, False, False]


@pytest.mark.parametrize("wrong", [{"distillation": -1.0}, {"temperature": 0.0}])
def test_ranges(wrong):
    with pytest.raises(UserError, match="above 0"):
        linear(**wrong)
