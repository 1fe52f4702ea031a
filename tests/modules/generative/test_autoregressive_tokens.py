"""The order and the words of tokens; their probabilities are tested beside the method that draws many at a time."""

from __future__ import annotations

import torch

from tests.modules.generative.test_resgen import made


def test_places_come_one_after_the_other_and_depths_within_them_with_words_of_their_own():
    method = made("autoregressive_tokens")
    tokens = torch.arange(16).view(1, 4, 4)
    assert method.text(tokens)[0, :6].tolist() == [0, 1 + 32, 2 + 64, 3 + 96, 4, 5 + 32]


def test_a_token_depends_on_the_class_and_on_those_before_it_alone():
    method = made("autoregressive_tokens")
    words = method.text(torch.randint(32, (1, 4, 4)))[:, :-1]
    other = words.clone()
    other[0, 7:] = method.text(torch.randint(32, (1, 4, 4)))[0, 7:-1]
    y = torch.tensor([1])
    one, two = method.log_probs(y, words), method.log_probs(y, other)
    torch.testing.assert_close(one[:, :8], two[:, :8])
    assert not torch.allclose(one[:, 8:], two[:, 8:])
    assert not torch.allclose(one, method.log_probs(torch.tensor([2]), words))
