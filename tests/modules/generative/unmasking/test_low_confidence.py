"""Which predictions are kept, step by step, by hand."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from modules.generative.unmasking.first_hitting import FirstHitting
from modules.generative.unmasking.low_confidence import LowConfidence
from tests.modules.generative.unmasking.fakes import Tabulated, far, frequencies


class Told(Tabulated):
    """Four places of three letters; how sure the model is of each, and what it has been shown."""

    def __init__(self, sure=(0.6, 0.9, 0.5, 0.7)) -> None:
        self.length, self.mask, self.calls = 4, 3, 0
        self.sure, self.shown = torch.tensor(sure, dtype=torch.float64), []

    def log_probs(self, z):
        self.shown.append(z.tolist())
        rest = (1 - self.sure) / 2
        return torch.stack([rest, self.sure, rest], dim=1).log().expand(len(z), -1, -1)


def test_the_surest_stay_first():
    model = Told()
    assert LowConfidence(steps=4)(model, model.masks(1)).tolist() == [[1, 1, 1, 1]]
    assert model.shown == [[[3, 3, 3, 3]], [[3, 1, 3, 3]], [[3, 1, 3, 1]], [[1, 1, 3, 1]]]


def test_the_remainder_goes_to_the_first_steps():
    model = Told()
    LowConfidence(steps=3)(model, model.masks(1))
    assert model.shown == [[[3, 3, 3, 3]], [[3, 1, 3, 1]], [[1, 1, 3, 1]]]


def test_blocks_go_from_left_to_right():
    model = Told()
    LowConfidence(steps=4, block=2)(model, torch.tensor([[3, 3, 3, 3], [0, 3, 3, 3]]))
    assert [rows[0] for rows in model.shown] == [[3, 3, 3, 3], [3, 1, 3, 3], [1, 1, 3, 3], [1, 1, 3, 1]]
    assert [rows[1] for rows in model.shown] == [[0, 3, 3, 3], [0, 1, 3, 3], [0, 1, 3, 3], [0, 1, 3, 1]]


def test_at_random_with_temperature_one_it_draws_as_the_first_hitting_sampler():
    torch.manual_seed(0)
    model = Tabulated(3, 2)
    drawn = LowConfidence(steps=3, temperature=1.0, remasking="random")(model, model.masks(60_000))
    assert far(frequencies(drawn, 2), model.in_random_order(), 60_000) < 4.5
    drawn = FirstHitting()(model, model.masks(60_000))
    assert far(frequencies(drawn, 2), model.in_random_order(), 60_000) < 4.5


def test_a_temperature_sharpens():
    torch.manual_seed(0)
    model = Told()
    drawn = LowConfidence(steps=1, temperature=0.5)(model, model.masks(40_000))
    weights = torch.tensor([0.2, 0.6, 0.2]).double() ** 2
    assert far(frequencies(drawn[:, :1], 3), weights / weights.sum(), 40_000) < 4.5


def test_guidance_asks_again_without_the_prompt():
    """With p = (.2, .6, .2) given the prompt and (.1, .1, .8) without, w = 1 weighs by p^2 / q: (.4, 3.6, .05)."""

    class Guided(Told):
        def log_probs(self, z):
            prompted = (z[:, :1, None] != self.mask).expand(-1, 4, 3)
            given, free = (torch.tensor(row, dtype=torch.float64) for row in ([0.2, 0.6, 0.2], [0.1, 0.1, 0.8]))
            return torch.where(prompted, given.log(), free.log())

    model = Guided()
    z = torch.tensor([[0, 3, 3, 3]])
    _, sure = LowConfidence(guidance=1.0).predict(model, z, z != 3)
    assert float(sure[0, 1].exp()) == pytest.approx(3.6 / 4.05, rel=1e-9)
    assert LowConfidence(guidance=1.0)(model, z).tolist() == [[0, 1, 1, 1]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"remasking": "high"}, "remasking=high"),
        ({"steps": 0}, "steps=0"),
        ({"block": 0}, "block=0"),
        ({"temperature": -1.0}, "temperature=-1"),
        ({"guidance": -1.0}, "guidance=-1"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(UserError, match=message):
        LowConfidence(**arguments)
