"""A table of pairs is any law of the next token after two."""

from __future__ import annotations

import torch

from modules.networks.trigram import Trigram


def test_logits_are_the_row_of_the_last_two_tokens_and_even_at_first():
    net = Trigram((4,), (5,))
    ids = torch.tensor([[0, 3, 1], [2, 2, 4]])
    assert not net(ids).any()
    with torch.no_grad():
        net.table.weight.copy_(torch.arange(150.0).view(30, 5))
    # No token before: rows 0 to 4; token p before: rows 5 (p + 1) to 5 (p + 1) + 4.
    assert net(ids)[:, :, 0].div(5).tolist() == [[0, 5 + 3, 20 + 1], [2, 15 + 2, 15 + 4]]
    assert net(ids)[0, 1].tolist() == [40, 41, 42, 43, 44]
