"""How alike the two answers of a pair are to a policy: which preferences displace likelihood."""

from __future__ import annotations

import torch
from torch import Tensor


def ches(features: Tensor, answers: Tensor) -> Tensor:
    """The length-normalised centered hidden embedding similarity (CHES) of pairs.

        <mean h(w), mean h(l)> - |mean h(w)|^2

    with h(w) the features from which the tokens of the chosen answer are said, and h(l) those of the rejected one. DPO
    moves ln pi(w) by the likeness of what both answers are said from, less that of the chosen answer with itself: the
    higher the score, the more of the likelihood that is taken from l is taken from w, too.

    Razin et al. 2024, "Unintentional Unalignment: Likelihood Displacement in Direct Preference Optimization"; as in the
    authors' code with its length normalisation, which the paper uses to filter records.

    Args:
        features: (B, 2, T, D), of the chosen and the rejected text.
        answers: which tokens are the answers', bool (B, 2, T).

    Returns:
        (B,); above 0 or below; 0 for two equal answers.
    """
    chosen, rejected = spoken_from(features, answers).unbind(1)
    return (chosen * rejected).sum(1) - chosen.square().sum(1)


def spoken_from(features: Tensor, answers: Tensor) -> Tensor:
    """Features (..., T, D) and which tokens are the answer's, bool (..., T) -> the mean of those that say it (..., D):
    from the prompt's last token to the answer's last but one.
    """
    says = answers[..., 1:, None].to(features.dtype)
    return (features[..., :-1, :] * says).sum(-2) / says.sum(-2)


def last_product(features: Tensor, answers: Tensor) -> Tensor:
    """The inner product of the features of both answers' last tokens (B, 2, T, D), bool (B, 2, T) -> (B,)."""
    place = torch.arange(answers.shape[2], device=answers.device)
    last = torch.where(answers, place, 0).amax(2)
    chosen, rejected = features.gather(2, last[..., None, None].expand(-1, -1, 1, features.shape[3]))[:, :, 0].unbind(1)
    return (chosen * rejected).sum(1)


def edit_similarity(ids: Tensor, answers: Tensor) -> Tensor:
    """1 - Levenshtein's distance of both answers over the length of the longer one (B,), in [0, 1].

    Args:
        ids: int64 (B, 2, T).
        answers: which tokens are the answers', bool (B, 2, T), side by side.
    """
    length = answers.sum(2)
    place = torch.arange(ids.shape[2], device=ids.device)
    source = (answers.int().argmax(2)[..., None] + place).clamp_max(ids.shape[2] - 1)
    one, other = ids.gather(2, source).unbind(1)
    longest = int(length.max())
    # Row i of the table: distances of the first i tokens of one to the first 0 ... `longest` of the other.
    row = torch.arange(longest + 1, device=ids.device).expand(len(ids), -1)
    found = [row]
    for i in range(1, longest + 1):
        cells = [torch.full_like(row[:, 0], i)]
        for j in range(1, longest + 1):
            changed = row[:, j - 1] + (one[:, i - 1] != other[:, j - 1])
            cells.append(torch.minimum(changed, torch.minimum(row[:, j], cells[-1]) + 1))
        row = torch.stack(cells, 1)
        found.append(row)
    pair = torch.arange(len(ids), device=ids.device)
    distance = torch.stack(found, 1)[pair, length[:, 0], length[:, 1]]
    return 1 - distance / length.amax(1)
