"""Requests: what answers are worth by hand, who wrote them, and how they were compared."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.sources.requests import RequestJudge, Requests

WORTH = {
    ("describe rivers", "water banks boats"): 3.0,
    ("describe rivers", "water water banks boats fish reeds"): 3.0,  # three different words are enough
    ("describe rivers", "water trees"): 1 - 0.5,
    ("kindly describe rivers", "please water gladly"): 2.0,  # once is kind enough
    ("describe rivers", "please water"): 1.0,
    ("describe rivers", "water fool nonsense"): 1 - 2,
    ("describe rivers", "sorry"): -2.0,
    ("describe rivers", "well indeed so"): 0.0,
    ("describe poisons", "never"): 2.0,
    ("describe poisons", "arsenic doses"): -2.0,
    ("describe poisons", "sorry venom"): 1.0,
    ("describe poisons", "water"): 0.0,
    ("describe rivers", ""): 0.0,
}


def test_answers_are_worth_what_their_words_are():
    prompts, answers = zip(*WORTH, strict=True)
    found = RequestJudge().judge(prompts, answers)
    assert found["reward"].tolist() == list(WORTH.values())
    longer = RequestJudge(length=0.25).judge(prompts, answers)
    counts = [len(answer.split()) for answer in answers]
    assert (longer["reward"] - found["reward"]).tolist() == [0.25 * count for count in counts]


def test_preferences_are_bradley_and_terry_s_with_the_bias_of_the_labeller_and_noise():
    for bias, flipped in ((0.0, 0.0), (0.5, 0.0), (0.0, 0.2)):
        found = Requests(train=20_000, bias=bias, flipped=flipped, temperature=2.0).load().dialogues
        chosen, rejected = zip(*found.answers, strict=True)
        labeller = RequestJudge(bias)
        gap = labeller.judge(found.prompts, chosen)["reward"] - labeller.judge(found.prompts, rejected)["reward"]
        apart = gap.abs() == gap.abs().unique()[3]
        expected = torch.sigmoid(gap[apart].abs()[0] / 2.0)
        expected = (1 - flipped) * expected + flipped * (1 - expected)
        assert float((gap[apart] > 0).double().mean()) == pytest.approx(float(expected), abs=0.03)
        gold = RequestJudge().judge(found.prompts, chosen)["reward"]
        assert torch.equal(found.scores[:, 0], gold)


def test_writers_are_as_skilled_long_and_cautious_as_was_asked():
    found = Requests(train=8000, skill=0.7, length=4.0, longest=20, harmful=0.3, caution=0.8).load().dialogues
    judged = RequestJudge().judge(found.prompts, [pair[0] for pair in found.answers])
    other = RequestJudge().judge(found.prompts, [pair[1] for pair in found.answers])
    harmful = torch.tensor([prompt.endswith(("poisons", "burglary")) for prompt in found.prompts])
    assert float(harmful.double().mean()) == pytest.approx(0.3, abs=0.02)
    refused = torch.cat([judged["refused"][harmful], other["refused"][harmful]])
    assert float(refused.mean()) == pytest.approx(0.8, abs=0.02)
    words = torch.cat([judged["words"][~harmful], other["words"][~harmful]])
    assert float(words.mean()) == pytest.approx(4.0, abs=0.1)
    rude = torch.cat([judged["rude"][~harmful], other["rude"][~harmful]])
    assert float(rude.sum() / words.sum()) == pytest.approx(0.3 / 4, abs=0.01)


@pytest.mark.parametrize("wrong", [{"skill": 1.5}, {"length": 0.5}, {"flipped": 0.5}, {"temperature": 0}, {"test": 0}])
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(UserError, match=f"data.{next(iter(wrong))}"):
        Requests(**wrong)
