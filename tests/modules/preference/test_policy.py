"""Answers' log probabilities against a loop over tokens, with any network of tokens."""

from __future__ import annotations

import torch

from modules.networks.transformer import Transformer
from modules.preference.policy import all_log_probs, answer_log_probs


def network():
    torch.manual_seed(0)
    net = Transformer((6,), (7,), width=16, depth=1, heads=2)
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return net.eval()


def by_hand(net, ids, answer):
    """One token at a time, each after what stands before it."""
    total = 0.0
    for place in range(1, len(ids)):
        if answer[place]:
            total += float(net(ids[None, :place])[0, -1].log_softmax(0)[ids[place]])
    return total


def test_it_is_the_sum_over_the_answer_s_tokens():
    net = network()
    ids = torch.randint(7, (3, 2, 6))
    answer = torch.tensor([[0, 0, 1, 1, 0, 0], [0, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 1]]).bool()[:, None].expand(3, 2, 6)
    with torch.no_grad():
        found = answer_log_probs(net, ids, answer)
        expected = torch.tensor([[by_hand(net, ids[i, j], answer[i, j]) for j in range(2)] for i in range(3)])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_all_answers_to_all_prompts_are_those_one_by_one():
    net = network()
    prompts, answers = torch.randint(7, (2, 3)), torch.randint(7, (4, 2))
    with torch.no_grad():
        found = all_log_probs(net, prompts, answers)
        mask = torch.tensor([False] * 3 + [True] * 2)
        expected = torch.tensor([[by_hand(net, torch.cat([p, a]), mask) for a in answers] for p in prompts])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_differences_are_taken_in_float32():
    net = network().bfloat16()
    assert answer_log_probs(net, torch.randint(7, (2, 6)), torch.ones(2, 6).bool()).dtype == torch.float32
