"""How tokens are drawn: cut-off laws as transformers has them, and draws with their probabilities."""

from __future__ import annotations

import pytest
import torch
from transformers import TopKLogitsWarper, TopPLogitsWarper

from compendium.errors import UserError
from modules.language.decoding import Decoding, draw


def test_laws_are_cut_off_as_transformers_does():
    torch.manual_seed(3)
    logits = 3 * torch.randn(50, 30)
    for decoding, other in (
        (Decoding(top_k=4), TopKLogitsWarper(4)),
        (Decoding(top_p=0.7), TopPLogitsWarper(0.7)),
        (Decoding(temperature=0.5, top_p=0.9), TopPLogitsWarper(0.9)),
    ):
        expected = other(None, logits / decoding.temperature).log_softmax(1)
        torch.testing.assert_close(decoding.law(logits), expected)


@pytest.mark.parametrize("wrong", [{"temperature": -1}, {"top_p": 0.0}, {"top_p": 1.1}, {"top_k": 0}])
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(UserError, match="at least 0"):
        Decoding(**wrong)


def test_draws_have_their_probabilities_and_never_are_what_is_impossible():
    torch.manual_seed(0)
    probability = torch.tensor([0.0, 0.5, 0.0, 1e-3, 0.299, 0.2, 0.0])
    drawn = draw(probability.log().expand(100_000, 7))
    assert drawn.shape == (100_000, 1)
    count = drawn[:, 0].bincount(minlength=7)
    expected = 100_000 * probability
    assert not count[probability == 0].any()
    within = 5 * (expected * (1 - probability)).sqrt()
    assert ((count - expected).abs() <= within).all()
