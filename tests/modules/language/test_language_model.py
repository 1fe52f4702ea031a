"""The plain language model against probabilities worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from compendium.errors import UserError
from datamodules.batches import Tokens
from datamodules.spec import DataSpec
from modules.capabilities import LanguageModel
from modules.language.language_model import AutoregressiveLanguageModel

SPEC = DataSpec(name="abc", kind="text", shape=(3,), vocabulary=3)


class Bigrams(nn.Module):
    """After token i, token j has the probability (i + j) % 3 / 3."""

    def __init__(self) -> None:
        super().__init__()
        table = torch.tensor([[0.0, 1, 2], [1, 2, 0], [2, 0, 1]]) / 3
        self.table = nn.Parameter(table.log().clamp(min=-1e4))

    def forward(self, ids):
        return self.table[ids]


def test_loss_is_the_mean_over_predicted_tokens():
    method = AutoregressiveLanguageModel(SPEC, net=Bigrams())
    batch = Tokens(torch.tensor([[0, 1, 1, 0], [2, 0, 2, 2]]))
    # 0 -> 1: 1/3, 1 -> 1: 2/3, 1 -> 0: 1/3; 2 -> 0: 2/3, 0 -> 2: 2/3, 2 -> 2: 1/3.
    assert method.loss(batch).item() == pytest.approx((3 * math.log(3) + 3 * math.log(1.5)) / 6, rel=1e-6)


def test_log_probabilities_are_those_of_the_next_token():
    method = AutoregressiveLanguageModel(SPEC, net=Bigrams())
    assert isinstance(method, LanguageModel)
    log_probs = method.next_token_log_probs(torch.tensor([[2, 0]]))
    expected = torch.tensor([[[2 / 3, 0, 1 / 3], [0, 1 / 3, 2 / 3]]])
    torch.testing.assert_close(log_probs.exp(), expected)
    assert torch.isfinite(log_probs).all()


def test_needs_text():
    with pytest.raises(UserError, match="needs text data"):
        AutoregressiveLanguageModel(SPEC.but(kind="vector"), net=Bigrams())
