"""Figures of answers: those of a policy whose answers are known."""

from __future__ import annotations

import pytest
import torch

from callbacks.evaluation.answers import Answers
from compendium.errors import UserError
from datamodules.presentations.preferences import PreferenceData
from datamodules.sources.bandit import Bandit
from datamodules.sources.requests import Requests
from modules.preference.pairwise import PairwisePreference
from tests.modules.preference.test_policy_gradient import SMALL

DPO = {"_target_": "modules.preference.objectives.referenced.DPO"}


@torch.no_grad()
def figures(data, method, **arguments):
    evaluation = Answers(**arguments)
    assert evaluation.why_not_on(method, data) is None
    evaluation.split = "test"
    evaluation.start(method, data)
    for number, batch in enumerate(data.test_dataloader()):
        evaluation.batch_idx = number
        evaluation.update(method, batch)
    return evaluation.compute(method, data)


def test_on_a_bandit_they_are_the_exact_ones():
    torch.manual_seed(0)
    data = PreferenceData(Bandit(prompts=2, answers=4, test=8000), eval_batch_size=3000)
    method = PairwisePreference(data.spec, DPO, net={"_target_": "modules.networks.bigram.Bigram"})
    torch.nn.init.normal_(method.net.table.weight)
    found = figures(data, method, limit=None)
    world = data.world
    with torch.no_grad():
        log_pi = method.all_log_probs(world.prompts, world.answers).double()
    prompt = data.source_columns["prompt"][data.rows["test"]]
    share = torch.bincount(prompt, minlength=2) / len(prompt)
    exact = (log_pi.exp() * world.reward).sum(1) @ share.double()
    even = world.reward.mean(1) @ share.double()
    kl = (log_pi.exp() * (log_pi - torch.tensor(0.25).log())).sum(1) @ share.double()
    wins = torch.sigmoid(world.reward[:, :, None] - world.reward[:, None]).mean(2)
    assert found["answer_reward"] == pytest.approx(float(exact), abs=0.04)
    assert found["reference_reward"] == pytest.approx(float(even), abs=0.04)
    assert found["answer_kl"] == pytest.approx(float(kl), abs=0.04)
    assert found["answer_win_rate"] == pytest.approx(float((log_pi.exp() * wins).sum(1) @ share.double()), abs=0.02)
    assert found["length_controlled_win_rate"] == pytest.approx(found["answer_win_rate"])
    assert found["answer_tokens"] == 1


def test_answers_are_judged_by_their_words_and_drawn_alike_each_time():
    data = PreferenceData(Requests(train=100, validation=10, test=60), eval_batch_size=40)
    torch.manual_seed(0)
    method = PairwisePreference(data.spec, DPO, net=SMALL).eval()
    first, second = figures(data, method, limit=50), figures(data, method, limit=50)
    assert first == second
    assert {"answer_right", "answer_harm", "answer_ended", "answer_distinct_2", "recorded_win_rate"} <= set(first)
    assert first["answer_win_rate"] == pytest.approx(0.5, abs=0.1)
    assert first["answer_kl"] == 0
    scores = data.columns["score"].view(-1, 2)[data.rows["test"][:50], 0]
    assert first["recorded_win_rate"] < float(torch.sigmoid(scores - scores.min()).mean())


def test_a_limit_is_at_least_one():
    with pytest.raises(UserError, match="limit=0"):
        Answers(limit=0)
