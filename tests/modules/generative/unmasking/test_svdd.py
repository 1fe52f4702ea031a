"""SVDD over tokens, against its law summed by hand."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from modules.generative.unmasking.svdd import SVDD
from tests.modules.generative.unmasking.fakes import Tabulated, far, frequencies

N = 40_000
TOKEN = {"_target_": "modules.generative.rewards.Token", "token": 1}


def test_one_step_draws_the_tilted_law_of_two_proposals():
    """Both places are filled in at once: proposal a is kept against b with probability w_a / (w_a + w_b)."""
    torch.manual_seed(0)
    model = Tabulated(2, 3)
    z = model.masks(1)
    one = model.log_probs(z)[0].exp()
    law = one[0][:, None] * one[1][None]  # (3, 3)
    weight = (((torch.arange(3) == 1)[:, None].double() + (torch.arange(3) == 1)[None]) / 2 / 0.3).exp()
    kept = weight.flatten()[:, None] / (weight.flatten()[:, None] + weight.flatten())
    expected = 2 * law * (kept * law.flatten()).sum(1).view(3, 3)
    assert float(expected.sum()) == pytest.approx(1, abs=1e-9)
    sampler = SVDD(TOKEN, proposals=2, temperature=0.3, steps=1)
    found = frequencies(sampler(model, model.masks(N)), 4)
    whole = torch.zeros(4, 4, dtype=torch.float64)
    whole[:3, :3] = expected
    assert far(found, whole, N) < 4.5


def test_more_proposals_have_more_of_the_reward_and_given_tokens_stay():
    torch.manual_seed(0)
    model = Tabulated(3, 2)
    shares = [
        float((SVDD(TOKEN, proposals=many, steps=6)(model, model.masks(2000)) == 1).double().mean())
        for many in (1, 4, 16)
    ]
    assert shares[0] < shares[1] < shares[2]
    given = torch.tensor([[0, 2, 2]]).repeat(50, 1)
    out = SVDD(TOKEN, proposals=4, steps=6)(model, given)
    assert (out[:, 0] == 0).all()
    assert (out < 2).all()


@pytest.mark.parametrize("changes", [{"proposals": 0}, {"temperature": -1.0}])
def test_values_out_of_range_are_refused(changes):
    with pytest.raises(UserError, match=r"model\.unmasking"):
        SVDD(TOKEN, **changes)
