"""Rises counted by hand."""

from __future__ import annotations

import pytest
import torch

from callbacks.evaluation.rises import Rises
from compendium.errors import UserError


def counted(evaluation, losses):
    for loss in losses:
        evaluation.on_train_batch_end(None, None, {"loss": torch.tensor(loss)}, None, 0)
    return evaluation.compute(None, None)["rises"]


def test_rises_are_the_share_of_steps_that_go_up():
    assert counted(Rises(), [3.0, 2.0, 2.5, 2.5, 1.0, 4.0]) == pytest.approx(2 / 5)


def test_rounding_at_an_optimum_is_no_rise():
    assert counted(Rises(), [1.0, 1.0 + 1e-7, 1.0]) == 0
    assert counted(Rises(floor=1e-10), [1e-12, 3e-12, 2e-11, 1e-9]) == pytest.approx(1 / 3)


def test_it_goes_on_where_a_checkpoint_left_it():
    first, second = Rises(), Rises()
    counted(first, [3.0, 2.0])
    second.load_state_dict(first.state_dict())
    assert counted(second, [2.5, 1.0]) == pytest.approx(1 / 3)


def test_mistakes_say_what_is_allowed():
    with pytest.raises(UserError, match="below 0"):
        Rises(tolerance=-1.0)
