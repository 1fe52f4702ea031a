"""Win rates of revised answers, against a sum over all paths of answers."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
import torch

from callbacks.evaluation.revisions import Revisions
from compendium.errors import UserError
from datamodules.presentations.labelled import LabelledData
from datamodules.presentations.preferences import PreferenceData
from datamodules.sources.digits import Digits
from datamodules.sources.duels import Duels
from tests.callbacks.evaluation.fakes import Fake, evaluate


class Reviser(Fake):
    """Random laws of answers and revisions."""

    def __init__(self, prompts, answers):
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.law, self.reference = torch.randn(2, prompts, answers, generator=draw, dtype=torch.float64).log_softmax(2)
        self.revision = torch.randn(prompts, answers, answers, generator=draw, dtype=torch.float64).log_softmax(2)

    def all_log_probs(self, prompts, answers):
        return self.law

    def all_reference_log_probs(self, prompts, answers):
        return self.reference

    def all_revision_log_probs(self, prompts, answers):
        return self.revision


def test_it_is_the_sum_over_all_paths(tmp_path):
    data = PreferenceData(Duels(prompts=2, answers=3))
    wins = data.world.wins
    method = Reviser(2, 3)
    got = evaluate(method, data, Revisions(revisions=2), folder=tmp_path)
    pi, reference, revision = method.law.exp(), method.reference.exp(), method.revision.exp()
    for k in range(3):
        expected = 0.0
        for prompt, *path, other in product(range(2), *[range(3)] * (k + 1), range(3)):
            p = pi[prompt, path[0]] * reference[prompt, other]
            for before, after in pairwise(path):
                p = p * revision[prompt, before, after]
            expected += float(p * wins[prompt, path[-1], other]) / 2
        assert got[f"win_rate_after_{k}"] == pytest.approx(expected, abs=1e-6)
    improved = sum(
        float(pi[p, a] * revision[p, a, b] * wins[p, b, a]) / 2 for p, a, b in product(range(2), range(3), range(3))
    )
    assert got["preferred_to_revised"] == pytest.approx(improved, abs=1e-6)
    assert got["revision_gain"] == pytest.approx(got["win_rate_after_2"] - got["win_rate_after_0"], abs=1e-9)


def test_it_needs_a_world_and_a_revision():
    assert Revisions().why_not_on(Reviser(1, 1), LabelledData(Digits())) == "nobody knows what all answers are worth"
    with pytest.raises(UserError, match=r"revisions\.revisions=0"):
        Revisions(revisions=0)
