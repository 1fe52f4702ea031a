"""Rankings with known laws."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from scipy import stats

from compendium.errors import UserError
from datamodules.presentations.rankings import RankingData
from datamodules.sources.linear_rankings import LinearRankings


def test_rankings_follow_plackett_and_luce():
    """Three answers that are always the same ones come in each order as often as the product of choices says."""
    source = LinearRankings("recorded", answers=3, ranked=3, rankings=20000, norm=2.0, validation=1, test=1)
    columns = source.load().columns
    for problem in range(2):
        items, weight = columns["items"][problem], columns["weight"][problem]
        worth = (items.double() @ weight).exp()
        ranked = columns["ranked"][columns["problem"] == problem]
        counts, expected = [], []
        for order in permutations(range(3)):
            counts.append(int((ranked == items[list(order)]).all(2).all(1).sum()))
            a, b, c = (float(worth[i]) for i in order)
            expected.append(20000 * a / (a + b + c) * b / (b + c))
        assert sum(counts) == 20000
        assert stats.chisquare(counts, expected).pvalue > 1e-3


def test_recorded_answers_follow_mu_and_weights_lie_on_the_sphere():
    source = LinearRankings("recorded", answers=6, rankings=3000, sharpness=0.0, tilt=3.0, norm=1.5)
    columns = source.load().columns
    weight = columns["weight"]
    torch.testing.assert_close(weight.norm(dim=1), torch.full((300,), 1.5, dtype=torch.float64))
    torch.testing.assert_close(weight.sum(1), torch.zeros(300, dtype=torch.float64), atol=1e-12, rtol=0)
    items = columns["items"][0]
    law = (3 * items.double() @ weight[0]).softmax(0)
    ranked = columns["ranked"][columns["problem"] == 0]
    # Of two that are drawn one after the other: P(a) = p_a (1 + sum_b p_b / (1 - p_b) - p_a / (1 - p_a)).
    odds = law / (1 - law)
    expected = 3000 * law * (1 + odds.sum() - odds)
    counts = (ranked[:, :, None] == items).all(3).sum((0, 1))
    assert float(((counts - expected).abs() / expected.sqrt()).max()) < 4


def test_the_construction_is_that_of_the_paper():
    data = RankingData(LinearRankings("uncovered", rankings=50, validation=2, test=3))
    choices = data.records("test")
    worth = torch.einsum("bad,bd->ba", choices.items.double(), choices.weight)
    torch.testing.assert_close(worth, torch.tensor([-0.9, -1.0, 0.0, 0.1], dtype=torch.float64).expand(3, 4))
    assert choices.problem.tolist() == [2, 3, 4]
    columns = data.columns
    gap = (columns["ranked"][:, 0] - columns["ranked"][:, 1]).abs()
    for problem in range(5):
        rows = gap[columns["problem"] == problem]
        assert int((rows == torch.tensor([0.0, 1, 0])).all(1).sum()) == 49
        assert int((rows == torch.tensor([1.0, 0, 0])).all(1).sum()) == 1


@pytest.mark.parametrize(
    "settings",
    [{"dimensions": 1}, {"ranked": 1}, {"rankings": 1}, {"norm": 0}, {"sharpness": -1}, {"world": "other"},
     {"world": "recorded", "answers": 3, "ranked": 4}, {"test": 0}],
)  # fmt: skip
def test_values_out_of_range_are_refused(settings):
    with pytest.raises(UserError):
        LinearRankings(**settings)
