"""The first-hitting sampler against the average over all orders, worked out by enumeration."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from modules.generative.unmasking.ancestral import Ancestral
from modules.generative.unmasking.first_hitting import FirstHitting
from tests.modules.generative.unmasking.fakes import Tabulated, far, frequencies

N = 60_000


def test_its_law_is_that_of_ancestral_sampling_with_infinitely_many_steps():
    torch.manual_seed(0)
    model = Tabulated(3, 2)
    law = model.in_random_order()
    # Richardson: the error of ancestral sampling is of first order in the step, and that of 2 b - a of second.
    a, b = (model.after(Ancestral(steps).plan(model))[:2, :2, :2] for steps in (64, 128))
    torch.testing.assert_close(2 * b - a, law, rtol=0, atol=2e-4)
    drawn = FirstHitting()(model, model.masks(N))
    assert model.calls == 3
    assert far(frequencies(drawn, 2), law, N) < 4.5


def test_all_at_once_is_one_step_of_ancestral_sampling():
    torch.manual_seed(0)
    model = Tabulated(3, 2)
    drawn = FirstHitting(together=3)(model, model.masks(N))
    assert model.calls == 1
    assert far(frequencies(drawn, 2), model.after(Ancestral(1).plan(model))[:2, :2, :2], N) < 4.5


def test_records_with_different_numbers_of_masks():
    torch.manual_seed(0)
    model = Tabulated(3, 2)
    z = torch.tensor([[0, 2, 1], [2, 1, 2], [0, 0, 0]])
    out = FirstHitting()(model, z.repeat(20_000, 1))
    assert model.calls == 2
    assert torch.equal(out[:, z[0] != 2][0::3], z[:1, z[0] != 2].expand(20_000, -1))
    assert torch.equal(out[2::3], z[2:].expand(20_000, -1))
    assert (out < 2).all()
    share = float((out[0::3, 1] == 1).double().mean())
    assert share == pytest.approx(float(model.table[0, 2, 1, 1, 1].exp()), abs=4.5 * 0.5 / 20_000**0.5)


def test_mistakes_are_named():
    with pytest.raises(UserError, match="together=0"):
        FirstHitting(together=0)
    with pytest.raises(UserError, match="precision=float8"):
        FirstHitting(precision="float8")
