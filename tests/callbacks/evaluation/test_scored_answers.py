"""Figures of scores, from tables of scores; expected values by scipy and by loops."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from callbacks.evaluation.scored_answers import ScoredAnswers
from compendium.errors import UserError
from datamodules.presentations.preferences import PreferenceData
from datamodules.sources.bandit import Bandit
from tests.callbacks.evaluation.fakes import Fake, evaluate


class Scores(Fake):
    """A table of scores of answers of one token to prompts of one token."""

    def __init__(self, table):
        super().__init__()
        self.table = table

    def answer_scores(self, ids, answer):
        return self.table[ids[..., 0], ids[..., 1]]


def noisy(data):
    noise = torch.randn(data.world.reward.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return data.world.reward + noise + 100 * torch.arange(len(noise))[:, None]


def test_pairs_are_judged_by_differences(tmp_path):
    data = PreferenceData(Bandit(prompts=3, answers=5), eval_batch_size=300)
    table = noisy(data)
    got = evaluate(Scores(table), data, ScoredAnswers(), folder=tmp_path)
    ids = data.records("test").pairs
    gap = table[ids[:, 0, 0], ids[:, 0, 1]] - table[ids[:, 1, 0], ids[:, 1, 1]]
    assert got["pair_accuracy"] == pytest.approx(float((gap > 0).double().mean()))
    assert got["pair_nll"] == pytest.approx(float((1 + (-gap).exp()).log().mean()))
    sure = torch.sigmoid(gap.abs())
    bins = [(sure > i / 15) & (sure <= (i + 1) / 15) for i in range(15)]
    ece = sum(abs(float(((gap > 0).double() - sure)[which].sum())) for which in bins) / len(gap)
    assert got["pair_ece"] == pytest.approx(ece)


def test_all_answers_are_compared_with_their_true_rewards(tmp_path):
    data = PreferenceData(Bandit(prompts=3, answers=5, unseen=0.4))
    table, world = noisy(data), data.world
    got = evaluate(Scores(table), data, ScoredAnswers(beta=0.5, best_of=2), folder=tmp_path)
    centred = [(value - value.mean(1, keepdim=True)).flatten() for value in (table, world.reward)]
    assert got["gold_correlation"] == pytest.approx(stats.pearsonr(*centred).statistic)
    mu = world.behaviour
    even = weighted = total = 0.0
    for p in range(3):
        for a in range(5):
            for b in range(a):
                right = float((table[p, a] > table[p, b]) == (world.reward[p, a] > world.reward[p, b]))
                even += right / 30
                weighted += right * float(mu[p, a] * mu[p, b])
                total += float(mu[p, a] * mu[p, b])
    assert got["gold_pair_accuracy"] == pytest.approx(even)
    assert got["recorded_pair_accuracy"] == pytest.approx(weighted / total)
    best = (mu * (table / 0.5 - 200 * torch.arange(3)[:, None]).exp()).double()
    best = best / best.sum(1, keepdim=True)
    assert got["tilted_reward"] == pytest.approx(float((best * world.reward).sum(1).mean()))
    ratio = torch.where(best > 0, best / mu, 1.0)
    assert got["tilted_kl"] == pytest.approx(float((best * ratio.log()).sum(1).mean()))
    two = sum(
        float(mu[p, a] * mu[p, b] * world.reward[p, a if table[p, a] >= table[p, b] else b]) / 3
        for p in range(3) for a in range(5) for b in range(5)
    )  # fmt: skip
    assert got["best_of_reward"] == pytest.approx(two)
    assert got["reference_reward"] == pytest.approx(float((mu * world.reward).sum(1).mean()))


def test_the_reward_itself_is_perfect_and_a_policy_s_reference_is_the_one_that_counts(tmp_path):
    data = PreferenceData(Bandit(prompts=3, answers=5))

    class Policy(Scores):
        def all_log_probs(self, prompts, answers):
            raise AssertionError

        def all_reference_log_probs(self, prompts, answers):
            return torch.zeros(3, 5)

    got = evaluate(Policy(data.world.reward), data, ScoredAnswers(), folder=tmp_path)
    for name in ("gold_correlation", "recorded_correlation", "gold_pair_accuracy", "recorded_pair_accuracy"):
        assert got[name] == pytest.approx(1)
    assert got["reference_reward"] == pytest.approx(float(data.world.reward.mean()))
    flat = evaluate(Scores(torch.zeros(3, 5)), data, ScoredAnswers(), folder=tmp_path)
    assert flat["gold_pair_accuracy"] == pytest.approx(0.5)
    assert flat["tilted_kl"] == pytest.approx(0, abs=1e-12)
    assert flat["pair_nll"] == pytest.approx(math.log(2))


def test_values_out_of_range_are_refused():
    for settings in ({"beta": 0.0}, {"best_of": 0}):
        with pytest.raises(UserError, match=r"scored_answers\.beta"):
            ScoredAnswers(**settings)
