"""Seams of pictures with known ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from callbacks.evaluation.seams import Seams, jump
from compendium.errors import UserError
from datamodules.presentations.labelled import LabelledData
from datamodules.sources.digits import Digits
from tests.callbacks.evaluation.fakes import Fake, evaluate


def test_a_jump_at_the_border_of_an_even_ramp():
    """Steps of 1 everywhere, and of 3 between the fourth and the fifth column."""
    columns = torch.arange(8.0) + 2 * (torch.arange(8) >= 4)
    x = (columns + torch.arange(8.0)[:, None]).expand(3, 1, 8, 8)
    assert jump(x, 4) == pytest.approx(2.0)  # across: 3 in columns and 1 in rows


class Broken(Fake):
    """Records with a step in the middle."""

    def __init__(self, data, by):
        super().__init__()
        self.x, self.by, self.weight = data.records("test", 300).x, by, nn.Parameter(torch.zeros(()))

    def sample(self, n):
        x = self.x[torch.arange(n) % len(self.x)].clone()
        x[..., 4:] += self.by
        return x


def test_records_have_no_seam_and_broken_ones_do(tmp_path):
    data = LabelledData(Digits(), scale="symmetric")
    data.setup()
    plain = evaluate(Broken(data, 0.0), data, Seams(every=4, n=300), folder=tmp_path)["seam"]
    broken = evaluate(Broken(data, 1.0), data, Seams(every=4, n=300), folder=tmp_path)["seam"]
    assert plain == pytest.approx(1.0, abs=0.02)
    assert broken > 1.3
    assert evaluate(Broken(data, 1.0), data, Seams(n=300), folder=tmp_path) == {}


def test_patches_of_one_pixel_are_refused():
    with pytest.raises(UserError, match="every=1"):
        Seams(every=1)
