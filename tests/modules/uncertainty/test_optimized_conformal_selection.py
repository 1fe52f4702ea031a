"""OptCS against its definition in loops, against conformal selection, and by the guarantee itself."""

from __future__ import annotations

import pytest
import torch
from statsmodels.stats.multitest import multipletests

from compendium.errors import UserError
from modules.uncertainty.conformal_selection import at_most, benjamini_hochberg
from modules.uncertainty.greedy_conformal_selection import GreedyConformalSelection
from modules.uncertainty.optimized_conformal_selection import PRUNINGS, OptimizedConformalSelection, sizes_with_each
from tests.modules.uncertainty.test_conformal_selection import SPEC, at_or_below, false_discoveries, fitted, problems


def drawn(ties, seed=0, shape=(6, 3), n=12, m=9):
    """Scores V (B, K, n) and W (B, K, m), some V infinite; whole numbers for ties."""
    draw = torch.Generator().manual_seed(seed)
    scores = torch.randn(*shape, n + m, generator=draw, dtype=torch.float64)
    scores = (2 * scores).round() if ties else scores
    calibration, pool = scores[..., :n].clone(), scores[..., n:].contiguous()
    calibration[torch.rand(calibration.shape, generator=draw) < 0.5] = torch.inf
    return calibration, pool


def auxiliary(calibration, pool, j):
    """p_l^(j) of one problem and one candidate: V (n,), W (m,) -> (m,)."""
    p = []
    for other in range(len(pool)):
        count = sum(float(v) <= float(pool[other]) for v in calibration) + int(pool[j] <= pool[other])
        p.append(0.0 if other == j else count / (len(calibration) + 1))
    return p


@pytest.mark.parametrize("level", [0.1, 0.3, 0.7])
@pytest.mark.parametrize("ties", [False, True])
def test_sizes_are_those_of_the_definition(level, ties):
    calibration, pool = drawn(ties)
    got = sizes_with_each(calibration, pool, level)
    for b, k, j in [(b, k, j) for b in range(6) for k in range(3) for j in range(9)]:
        p = auxiliary(calibration[b, k], pool[b, k], j)
        assert int(got[b, k, j]) == multipletests(p, level, method="fdr_bh")[0].sum()


@pytest.mark.parametrize("pruning", PRUNINGS)
def test_selects_what_the_algorithm_selects(pruning):
    method, task = fitted(OptimizedConformalSelection, level=0.5, pruning=pruning, candidates=4), problems(12, 10, 8)
    calibration, pool = method.scores(task)
    torch.manual_seed(5)
    got = method.select(task)
    torch.manual_seed(5)
    noise = torch.rand(12, 4, 8, dtype=torch.float64)
    xi = method.xi(torch.zeros(12, 8)).expand(12, 8)
    for b in range(12):
        sizes = [
            [
                multipletests(auxiliary(calibration[b, k], pool[b, k], j), 0.5, method="fdr_bh")[0].sum()
                for k in range(4)
            ]
            for j in range(8)
        ]
        chosen = [max(range(4), key=lambda k, j=j: (sizes[j][k], float(noise[b, k, j]))) for j in range(8)]
        e = []
        for j, k in enumerate(chosen):
            p = (1 + sum(float(v) <= float(pool[b, k, j]) for v in calibration[b, k])) / 11
            bound = 0.5 * float(sizes[j][k]) / 8
            e.append((p <= bound) / bound / float(xi[b, j]))
        # e-BH (Wang and Ramdas 2022): the k largest e-values, for the largest k with the k-th at least m / (q k).
        ranked = sorted(e, reverse=True)
        count = max((k for k in range(1, 9) if ranked[k - 1] >= 8 / (0.5 * k) * (1 - 1e-12)), default=0)
        want = [count > 0 and value >= ranked[count - 1] for value in e]
        assert got[b].tolist() == want
    assert 0 < int(got.sum()) < got.numel()


@pytest.mark.parametrize("pruning", PRUNINGS)
@pytest.mark.parametrize("level", [0.2, 0.5])
def test_with_one_candidate_it_is_conformal_selection(pruning, level):
    method = fitted(OptimizedConformalSelection, candidates=1, share=0.5, level=level, pruning=pruning)
    task = problems(300)
    calibration, pool = (scores[:, 0] for scores in method.scores(task))
    p = (1 + at_most(calibration, pool)).double() / (calibration.shape[1] + 1)
    want = benjamini_hochberg(p, level)
    assert torch.equal(method.select(task), want)
    assert want.any()


@pytest.mark.parametrize("pruning", PRUNINGS)
@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_the_false_discovery_rate_is_controlled_where_greed_breaks_it(pruning, slope):
    arguments = {"candidates": 20, "share": 0.05, "level": 0.2}
    task = problems(2000, slope=slope)
    rates = false_discoveries(fitted(OptimizedConformalSelection, pruning=pruning, **arguments), task)
    assert at_or_below(rates, 0.2)
    greedy = false_discoveries(fitted(GreedyConformalSelection, **arguments), task)
    assert not at_or_below(greedy, 0.2)


def test_the_order_of_the_labelled_records_and_of_the_pool_does_not_matter():
    method, task = fitted(OptimizedConformalSelection, pruning="deterministic", candidates=1), problems(20)
    mixed = task._replace(
        calibration_x=task.calibration_x.flip(1), calibration_y=task.calibration_y.flip(1), pool_x=task.pool_x.flip(1)
    )
    assert torch.equal(method.select(mixed).flip(1), method.select(task))


def test_mistakes_are_named():
    with pytest.raises(UserError, match=r"model\.pruning=none"):
        OptimizedConformalSelection(SPEC, pruning="none")
