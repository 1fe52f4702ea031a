"""Rejections, counted."""

from __future__ import annotations

import pytest
import torch

from callbacks.evaluation.expertise import Expertise
from compendium.errors import UserError


class Tested:
    """Four sets."""

    def expertise(self):
        return torch.tensor([0.001, 0.05, 0.06, 0.9])


def test_by_hand():
    got = Expertise().compute(Tested(), None)
    assert (got["rejections"], got["sets"], got["useful"]) == (2, 4, 0.5)
    assert got["smallest_p"] == pytest.approx(0.004)
    assert Expertise(level=0.01).compute(Tested(), None)["rejections"] == 1


def test_a_level_is_a_probability():
    with pytest.raises(UserError, match=r"expertise\.level=0"):
        Expertise(level=0)
