"""Similarities of answers against loops over tokens, and CHES against the gradients that it stands for."""

from __future__ import annotations

from functools import cache

import torch
from torch.nn import functional as F

from modules.preference.similarity import ches, edit_similarity, last_product


def texts():
    """Pairs with prompts and answers of several lengths, filled up; features of all places."""
    draw = torch.Generator().manual_seed(0)
    lengths = [(1, 3, 2), (2, 1, 4), (1, 2, 2), (3, 4, 1)]
    ids, mask = torch.randint(4, (4, 2, 7), generator=draw), torch.zeros(4, 2, 7, dtype=torch.bool)
    for row, (prompt, *answers) in enumerate(lengths):
        ids[row, 1, :prompt] = ids[row, 0, :prompt]
        for place, length in enumerate(answers):
            mask[row, place, prompt : prompt + length] = True
    return ids, mask, torch.randn(4, 2, 7, 5, generator=draw, dtype=torch.float64), lengths


def test_scores_are_loops_over_tokens():
    _, mask, features, lengths = texts()
    found, last = ches(features, mask), last_product(features, mask)
    for row, (prompt, *answers) in enumerate(lengths):
        means, ends = [], []
        for place, length in enumerate(answers):
            # Token k of the answer is said from the features of what stands before it.
            means.append(sum(features[row, place, prompt + k - 1] for k in range(length)) / length)
            ends.append(features[row, place, prompt + length - 1])
        torch.testing.assert_close(found[row], means[0] @ means[1] - means[0] @ means[0])
        torch.testing.assert_close(last[row], ends[0] @ ends[1])


def test_equal_answers_score_nothing_and_what_is_filled_up_does_not_count():
    _, mask, features, _ = texts()
    twice = features[:, :1].expand_as(features)
    assert ches(twice, mask[:, :1].expand_as(mask)).abs().max() < 1e-12
    noise = torch.where(mask[..., None].roll(-1, 2) | mask[..., None], features, 100.0)
    torch.testing.assert_close(ches(noise, mask), ches(features, mask))


def test_it_is_how_a_step_of_the_last_layer_displaces_the_chosen_answer_where_answers_have_a_token_each():
    """With tokens of their own, <grad ln pi(w), grad (ln pi(w) - ln pi(l))> is minus the score, but for what comes of
    the softmax; those terms are gone where all that is said has probability near 0.
    """
    draw = torch.Generator().manual_seed(1)
    one, other = torch.randn(2, 3, generator=draw, dtype=torch.float64)
    weight = torch.randn(10_000, 3, generator=draw, dtype=torch.float64) * 0.1
    weight.requires_grad_()
    # Both answers say the same token from different features: what l loses, w loses by how alike the features are.
    log_p = lambda h: F.log_softmax(weight @ h, 0)[7]  # noqa: E731
    (chosen,) = torch.autograd.grad(log_p(one), weight)
    (step,) = torch.autograd.grad(log_p(one) - log_p(other), weight)
    features = torch.stack([one, other])[None, :, None].expand(1, 2, 2, 3)
    mask = torch.tensor([[[False, True], [False, True]]])
    assert abs(float((chosen * step).sum()) + float(ches(features, mask))) < 1e-2


def test_edit_similarity_is_levenshtein_s():
    ids, mask, _, _ = texts()
    found = edit_similarity(ids, mask)
    for row in range(4):
        a, b = (ids[row, place][mask[row, place]].tolist() for place in range(2))

        @cache
        def distance(i: int, j: int, a=tuple(a), b=tuple(b)) -> int:
            if not i or not j:
                return i + j
            change = distance(i - 1, j - 1) + (a[i - 1] != b[j - 1])
            return min(change, distance(i - 1, j) + 1, distance(i, j - 1) + 1)

        assert float(found[row]) == 1 - torch.tensor(distance(len(a), len(b)) / max(len(a), len(b)))
