"""A table is any law of the next token."""

from __future__ import annotations

import torch

from modules.networks.bigram import Bigram


def test_logits_are_the_row_of_the_last_token_and_even_at_first():
    net = Bigram((4,), (5,))
    ids = torch.tensor([[0, 3, 1], [2, 2, 4]])
    assert not net(ids).any()
    with torch.no_grad():
        net.table.weight.copy_(torch.arange(25.0).view(5, 5))
    assert net(ids)[0, 1].tolist() == [15, 16, 17, 18, 19]
