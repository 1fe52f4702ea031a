"""SAFE-ALIGN: its loss by hand, and what the bound does to its gradient."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from modules.preference.objectives.base import Pairs
from modules.preference.objectives.safe_align import SafeAlign


def pairs(rejected):
    chosen, lengths = torch.tensor([-2.0, -4.0]).double(), torch.tensor([2.0, 4.0]).double()
    none = torch.zeros(2).double()
    return Pairs(chosen, rejected, none, none, lengths, torch.tensor([2.0, 5.0]).double())


def test_its_loss_is_that_of_its_formula():
    found = SafeAlign(weight=0.3, bound=2.0)(pairs(torch.tensor([-3.0, -20.0]).double()))
    assert float(found["likelihood"]) == pytest.approx(6 / 6)
    assert float(found["ascent"]) == pytest.approx(-0.3 * (1.5 + 2.0) / 2)
    found = SafeAlign(weight=0.3, bound=None)(pairs(torch.tensor([-3.0, -20.0]).double()))
    assert float(found["ascent"]) == pytest.approx(-0.3 * (1.5 + 4.0) / 2)


def test_beyond_the_bound_a_rejected_answer_is_left_alone():
    rejected = torch.tensor([-3.0, -20.0]).double().requires_grad_()
    SafeAlign(weight=1.0, bound=2.0)(pairs(rejected))["ascent"].backward()
    assert rejected.grad.tolist() == [0.25, 0.0]  # the descent lowers ln pi of the first


def test_wrong_values_are_refused():
    with pytest.raises(UserError, match="weight"):
        SafeAlign(weight=-1)
    with pytest.raises(UserError, match="bound=0"):
        SafeAlign(bound=0)
