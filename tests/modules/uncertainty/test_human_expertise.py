"""Regressions within sets against scikit-learn, and the test at its level."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import binomtest, permutation_test
from sklearn.linear_model import LinearRegression, Ridge
from torch.nn.functional import one_hot

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.uncertainty import human_expertise
from modules.uncertainty.human_expertise import HumanExpertise, regressions

SPEC = DataSpec("e", "vector", (3,), target="real", sizes={"train": 400})


def records(n=400, seed=0, knows=1.0):
    draw = torch.Generator().manual_seed(seed)
    x, z = torch.randn(n, 3, generator=draw), torch.randn(n, generator=draw)
    x[:, 2] = 0.5 * x[:, 0] + knows * z
    return x, x[:, 0] + z + 0.1 * torch.randn(n, generator=draw)


def fitted(use, **arguments):
    method = HumanExpertise(SPEC, use, levels=4, permutations=99, **arguments)
    x, y = records()
    method.accumulate(Labelled(x[:150], y[:150]))
    method.accumulate(Labelled(x[150:], y[150:]))
    method.solve()
    return method, x.double(), y.double()


@pytest.mark.parametrize(("use", "columns"), [("levels", [2]), ("boosting", [])])
def test_within_level_sets(use, columns):
    method, x, y = fitted(use)
    known, level = method.boosting(x[:, :-1])
    left = y - known
    got = method.predict_distribution(x)
    for one in range(4):
        own, mine = (level == one) & (torch.arange(400) >= 200), level == one
        want = left[own].mean().expand(int(mine.sum()))
        if columns:
            fit = LinearRegression().fit(x[own][:, columns].numpy(), left[own].numpy())
            want = torch.from_numpy(fit.predict(x[mine][:, columns].numpy()))
        torch.testing.assert_close((got.mean - known)[mine], want, rtol=1e-5, atol=1e-5)
        error = (y - got.mean)[own].square().mean().sqrt()
        torch.testing.assert_close(got.stddev[mine], error.expand(int(mine.sum())))


@pytest.mark.parametrize(("use", "columns"), [("linear", [0, 1]), ("expert", [2]), ("stacked", [0, 1, 2])])
def test_what_it_is_compared_with(use, columns):
    method, x, y = fitted(use, ridge=2.0)
    want = Ridge(2.0).fit(x[:, columns].numpy(), y.numpy()).predict(x[:, columns].numpy())
    torch.testing.assert_close(method.mean(x), torch.from_numpy(want), rtol=1e-2, atol=1e-2)


def test_masked_regressions_leave_zeros():
    x, y = (part.double() for part in records(60))
    member = one_hot(torch.arange(60) % 2, 2).double()
    lines = regressions(x, y, member, torch.tensor([True, False, True, False]), 0.0)
    assert (lines[:, [1, 3]] == 0).all()
    fit = LinearRegression().fit(x[::2, 1:2].numpy(), y[::2].numpy())
    torch.testing.assert_close(lines[0, 2], torch.tensor(fit.coef_[0], dtype=torch.float64), rtol=1e-5, atol=1e-7)


def test_p_values_are_scipys():
    x, y = (part.double() for part in records(60, knows=0.1))
    member = one_hot(torch.arange(60) % 2, 2).double()
    got = human_expertise.permutation_test(x[:, 2], y, member, 4999)
    for one in range(2):
        h, t = x[one::2, 2].numpy(), y[one::2].numpy()
        want = permutation_test(
            (h,),
            lambda h, t=t: abs(h @ (t - t.mean())),
            permutation_type="pairings",
            n_resamples=4999,
            alternative="greater",
            rng=0,
        )
        assert float(got[one]) == pytest.approx(want.pvalue, abs=0.03)


def test_without_expertise_the_level_is_kept_and_with_it_it_is_found():
    """2000 sets in which opinion and target are independent, heavy-tailed, all in one call."""
    draw = torch.Generator().manual_seed(0)
    sets = torch.arange(2000).repeat_interleave(12)
    h = torch.randn(len(sets), generator=draw, dtype=torch.float64) ** 3
    y = torch.randn(len(sets), generator=draw, dtype=torch.float64) ** 3
    parts = [slice(first * 1200, (first + 1) * 1200) for first in range(20)]
    member = one_hot(sets[:1200], 100).double()
    p = torch.cat([human_expertise.permutation_test(h[part], y[part], member, 199) for part in parts])
    assert binomtest(int((p <= 0.05).sum()), 2000, 0.05).pvalue > 1e-3
    assert fitted("levels")[0].expertise().max() <= 0.01


def test_mistakes_are_named():
    for arguments in ({"use": "x"}, {"levels": 1}, {"share": 1.0}, {"ridge": 0.0}, {"permutations": 0}):
        with pytest.raises(UserError, match=rf"model\.{next(iter(arguments))}"):
            HumanExpertise(SPEC, **arguments)
