"""Expected improvement by an ensemble: its moments, and a search that is continued."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from modules.uncertainty.ei_ensemble import EIEnsemble
from tests.modules.uncertainty.test_sequential import ADAM, NET, SPEC, pool, steps

PARTS = {"net": NET, "optimizer": ADAM, "steps": 5, "acquisitions": 12, "initial": 4}


def test_moments_are_those_of_the_members():
    torch.manual_seed(0)
    search = EIEnsemble(SPEC, members=4, **PARTS)
    steps(search, pool(), 0, 1)
    x = pool().x.double()
    mean, variance = search.moments(x)
    y = search.measured()[1].numpy()
    with torch.no_grad():
        said = y.mean() + y.std() * search.net(x.float())[..., 0].double().numpy()
    torch.testing.assert_close(mean, torch.from_numpy(said.mean(0)), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(variance, torch.from_numpy(said.var(0, ddof=1)), atol=1e-6, rtol=1e-5)


def test_a_continued_search_is_the_same():
    torch.manual_seed(0)
    whole, begun = EIEnsemble(SPEC, **PARTS), EIEnsemble(SPEC, **PARTS)
    begun.load_state_dict(whole.state_dict())
    steps(begun, pool(), 0, 5)
    torch.manual_seed(1)
    again = EIEnsemble(SPEC, **PARTS)
    again.load_state_dict(begun.state_dict())
    assert steps(again, pool(), 5, 9) == steps(whole, pool(), 0, 9)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_values_out_of_range_are_refused():
    with pytest.raises(UserError, match="members=1"):
        EIEnsemble(SPEC, members=1, **PARTS)
