"""Figures of prompters by loops, and the bound in many worlds."""

from __future__ import annotations

import pytest
import torch

from callbacks.evaluation.prompter import PrompterFigures
from compendium.errors import UserError
from datamodules.presentations.labelled import LabelledData
from datamodules.presentations.preferences import PreferenceData
from datamodules.sources.bandit import Bandit
from datamodules.sources.digits import Digits
from tests.callbacks.evaluation.fakes import Fake, evaluate


class Prompter(Fake):
    """Random laws; the optimum itself where `best` is set."""

    def __init__(self, price, prompts, answers, seed):
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.price = price
        self.rho, self.sft = (torch.randn(prompts, prompts, generator=draw).double().log_softmax(1) for _ in range(2))
        self.law = (2 * torch.randn(prompts, answers, generator=draw).double()).log_softmax(1)

    def rewriting_log_probs(self, prompts):
        return self.rho, self.sft

    def target_log_probs(self, prompts, answers):
        return self.law


def test_figures_are_those_of_loops(tmp_path):
    data = PreferenceData(Bandit(prompts=3, answers=4))
    method, reward = Prompter(0.4, 3, 4, 0), data.world.reward
    got = evaluate(method, data, PrompterFigures(beta=0.6), folder=tmp_path)
    rho, sft, law = method.rho.exp(), method.sft.exp(), method.law.exp()
    r = torch.tensor([[sum(float(law[b, y] * reward[a, y]) for y in range(4)) for b in range(3)] for a in range(3)])
    best = sft * (r.double() / 0.4).exp()
    best = best / best.sum(1, keepdim=True)
    tuned = law * (reward / 0.6).exp()
    tuned = tuned / tuned.sum(1, keepdim=True)
    bound = 0.0
    for x in range(3):
        spread = float(reward[x].max() - reward[x].min())
        away = sum(float(sft[x, b]) * 0.5 * float((law[x] - law[b]).abs().sum()) for b in range(3))
        cost = 0.4 * float((best[x] * (best[x] / sft[x]).log()).sum())
        bound += (spread * (0.5 * float((tuned[x] - law[x]).abs().sum()) + away) - cost) / 3
    expected = {
        "prompted_reward": float((rho * r).sum(1).mean()),
        "unprompted_reward": float(r.diagonal().mean()),
        "tuned_reward": float((tuned * reward).sum(1).mean()),
        "rewriting_kl": float((rho * (rho / sft).log()).sum(1).mean()),
        "optimum_divergence": float((rho * (rho / best).log()).sum(1).mean()),
        "tuning_gap": float((tuned * reward).sum(1).mean() - (best * r).sum(1).mean()),
        "tuning_bound": bound,
    }
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, abs=1e-5), name
    assert got["bound_slack"] == pytest.approx(bound - expected["tuning_gap"], abs=1e-5)


def test_the_bound_holds_in_many_worlds():
    for seed in range(200):
        data = PreferenceData(Bandit(prompts=3, answers=4, train=1, validation=1, test=1, seed=seed))
        figures = PrompterFigures(beta=0.05 + seed / 100).compute(Prompter(0.02 + seed / 50, 3, 4, seed), data)
        assert figures["bound_slack"] >= 0


def test_it_needs_a_world_and_a_positive_beta():
    assert PrompterFigures().why_not_on(Prompter(1.0, 1, 1, 0), LabelledData(Digits())) == (
        "nobody knows what all answers are worth"
    )
    with pytest.raises(UserError, match=r"prompter\.beta=0|beta=0"):
        PrompterFigures(beta=0)
