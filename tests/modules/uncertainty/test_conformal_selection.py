"""Conformal p-values and their selection by hand, against statsmodels, and by the guarantee itself."""

from __future__ import annotations

import pytest
import torch
from sklearn.linear_model import Ridge
from statsmodels.stats.multitest import multipletests

from compendium.errors import UserError
from datamodules.batches import Labelled, SelectionTask
from datamodules.spec import DataSpec
from modules.uncertainty.conformal_selection import (
    ConformalSelection,
    ascending,
    at_most,
    benjamini_hochberg,
    conformal_p_values,
    largest,
)

SPEC = DataSpec("line", "vector", (20,), target="real")


def training_records():
    """60 records (n, 20) with y = x_1 + ... + x_20 + noise."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(60, 20, generator=draw)
    return x, x.sum(1) + torch.randn(60, generator=draw)


def fitted(kind=ConformalSelection, **arguments):
    """A method whose candidates were fitted on the training records, in two batches."""
    torch.manual_seed(0)
    method = kind(SPEC, **arguments)
    for x, y in zip(*(part.split(25) for part in training_records()), strict=True):
        method.accumulate(Labelled(x, y))
    method.solve()
    return method


def problems(count, n=50, m=40, slope=1.0, seed=0):
    """Problems with the same law; without slope, nothing tells the interesting records."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(count, n + m, 20, generator=draw)
    y = slope * x.sum(2) + torch.randn(count, n + m, generator=draw)
    return SelectionTask(x[:, :n], y[:, :n], x[:, n:], y[:, n:], torch.zeros(count))


def false_discoveries(method, task):
    """The share of false discoveries in each problem, float64."""
    torch.manual_seed(1)
    chosen = method.select(task._replace(pool_y=torch.full_like(task.pool_y, torch.nan)))
    wrong = (chosen & (task.pool_y <= task.threshold[:, None])).sum(1)
    return (wrong / chosen.sum(1).clamp(min=1)).double()


def at_or_below(rates, level):
    """Whether a mean is not above a level, by three standard errors."""
    return float(rates.mean()) <= level + 3 * float(rates.std() / len(rates) ** 0.5)


def test_candidates_are_ridge_regressions_on_their_features():
    method = fitted(candidates=4, share=0.3, ridge=2.5)
    assert method.features.shape == (4, 6)
    x, y = training_records()
    new = torch.randn(7, 20)
    for k, own in enumerate(method.features):
        theirs = Ridge(alpha=2.5).fit(x[:, own].double().numpy(), y.double().numpy())
        want = torch.from_numpy(theirs.predict(new[:, own].double().numpy()))
        torch.testing.assert_close(method.predict(new[None])[0, :, k], want, atol=1e-9, rtol=0)


def test_p_values_by_hand():
    calibration = torch.tensor([-2.0, -1.0, -1.0, torch.inf], dtype=torch.float64)
    pool = torch.tensor([-3.0, -1.0, 0.0], dtype=torch.float64)
    assert at_most(calibration, pool).tolist() == [0, 3, 3]
    assert at_most(calibration, pool, strict=True).tolist() == [0, 1, 3]
    torch.manual_seed(0)
    u = torch.rand(3, dtype=torch.float64)
    torch.manual_seed(0)
    want = (torch.tensor([0, 1, 3]) + u * torch.tensor([1, 3, 1])) / 5
    torch.testing.assert_close(conformal_p_values(calibration, pool), want)


def test_p_values_of_exchangeable_scores_are_uniform():
    torch.manual_seed(0)
    scores = torch.randint(4, (40_000, 10)).double()  # with many ties
    p = conformal_p_values(scores[:, :9], scores[:, 9:])[:, 0]
    for level in (0.05, 0.3, 0.8):
        assert float((p <= level).double().mean()) == pytest.approx(level, abs=4 * 0.5 / 200)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_values_are_sorted_as_torch_sorts_them(dtype):
    values = torch.randn(4, 3, 500, generator=torch.Generator().manual_seed(0)).to(dtype)
    values[0, 0, :3] = torch.tensor([torch.inf, -torch.inf, torch.nan])
    values[1] = values[1].round()  # with ties
    for given in (values, values.transpose(0, 2)):
        got = ascending(given)
        assert got.is_contiguous()
        torch.testing.assert_close(got, given.sort(-1).values, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("level", [0.05, 0.3, 0.9])
def test_selection_is_that_of_benjamini_and_hochberg(level):
    p = torch.rand(300, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64) ** 2
    want = torch.stack([torch.from_numpy(multipletests(row.numpy(), level, method="fdr_bh")[0]) for row in p])
    assert torch.equal(benjamini_hochberg(p, level), want)
    assert want.any(1).any()


def test_scores_of_interesting_records_are_above_all_others():
    method, task = fitted(candidates=3), problems(5)
    calibration, pool = method.scores(task)
    above = task.calibration_y > 0
    assert (calibration[above[:, None].expand_as(calibration)] == torch.inf).all()
    mu = method.predict(task.calibration_x).transpose(1, 2)
    uninteresting = ~above[:, None].expand_as(calibration)
    assert torch.equal(calibration[uninteresting], -mu[uninteresting])
    assert torch.equal(pool, -method.predict(task.pool_x).transpose(1, 2))
    moved = method.scores(task._replace(threshold=torch.full((5,), 1e9)))[0]
    assert moved.isfinite().all()


@pytest.mark.parametrize("slope", [0.0, 0.4])
@pytest.mark.parametrize("level", [0.1, 0.4])
def test_the_false_discovery_rate_is_controlled(slope, level):
    method = fitted(share=1.0, candidates=1, level=level)
    assert at_or_below(false_discoveries(method, problems(2000, slope=slope)), level)


def test_the_largest_is_found_and_ties_are_broken_at_random():
    sizes = torch.tensor([[1, 3, 3], [2, 0, 1]]).repeat(1000, 1)
    found = largest(sizes)
    assert (found[1::2] == 0).all()
    assert set(found[::2].tolist()) == {1, 2}
    assert float((found[::2] == 1).double().mean()) == pytest.approx(0.5, abs=0.07)


def test_mistakes_are_named():
    for arguments in ({"level": 1.0}, {"candidates": 0}, {"share": 0.0}, {"ridge": 0}):
        with pytest.raises(UserError, match=rf"model\.{next(iter(arguments))}="):
            ConformalSelection(SPEC, **arguments)
