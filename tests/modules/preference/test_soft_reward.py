"""Soft labels: the loss against binary cross-entropy, its minimum, and its limit of hard labels."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from datamodules.batches import Preferences, SoftPreferences
from modules.preference.reward_model import RewardModel
from modules.preference.soft_reward import SoftReward
from tests.modules.preference.test_reward_model import SPEC, batch
from tests.modules.preference.test_reward_model import model as hard_model


def soft(first: torch.Tensor) -> SoftPreferences:
    return SoftPreferences(*batch(), first)


def model(**settings) -> SoftReward:
    hard = hard_model(**settings)
    found = SoftReward(SPEC, net=hard.net, **settings).double().eval()
    found.load_state_dict(hard.double().state_dict())
    return found


def test_without_a_margin_it_is_binary_cross_entropy():
    method, first = model(), torch.tensor([0.1, 0.5, 0.9, 1.0, 0.0], dtype=torch.float64)
    with torch.no_grad():
        scores = method.answer_scores(batch().pairs, batch().answers)
        ours = float(method.loss(soft(first))["preference"])
    gap = scores[:, 0] - scores[:, 1]
    assert ours == pytest.approx(float(F.binary_cross_entropy_with_logits(gap, first)), rel=1e-12)
    p = torch.sigmoid(gap)
    by_hand = -(first * p.log() + (1 - first) * (1 - p).log()).mean()
    assert ours == pytest.approx(float(by_hand), rel=1e-9)


@pytest.mark.parametrize(("center", "margin"), [(0.0, 0.0), (0.3, 0.7)])
def test_with_hard_labels_it_is_the_reward_model_s(center, margin):
    method, given = model(center=center, margin=margin), batch()
    turned = Preferences(given.pairs.flip(1), given.answers.flip(1), given.row)
    with torch.no_grad():
        for first, other in ((1.0, given), (0.0, turned)):
            ours = sum(method.loss(soft(torch.full((5,), first))).values())
            theirs = sum(RewardModel.loss(method, other).values())
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)


def test_its_gradient_vanishes_where_scores_say_the_label_and_nowhere_else():
    method = model()
    with torch.no_grad():
        scores = method.answer_scores(batch().pairs, batch().answers)
        first = torch.sigmoid(scores[:, 0] - scores[:, 1])
    for label, flat in ((first, True), (1 - first, False)):
        method.zero_grad()
        method.loss(soft(label))["preference"].backward()
        assert (float(method.head.weight.grad.abs().max()) < 1e-12) == flat


def test_a_turned_pair_with_a_turned_label_has_the_same_loss():
    method, first = model(center=0.1, margin=0.4), torch.rand(5, dtype=torch.float64)
    given = soft(first)
    turned = SoftPreferences(given.pairs.flip(1), given.answers.flip(1), given.row, 1 - first)
    with torch.no_grad():
        one, other = (sum(method.loss(part).values()) for part in (given, turned))
    torch.testing.assert_close(one, other, rtol=1e-12, atol=0)
