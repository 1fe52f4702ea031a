"""Texts that a network writes: batched, from a cache where it has one."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from modules.language.decoding import Decoding
from modules.language.readers import Reader, Speculator


class Written(NamedTuple):
    """Texts that begin with prompts.

    `ids` int64 (n, T), prompt and answer, filled up with 0; `answer` bool (n, T), the tokens of the answer, its end
    included; `log_probs` float32 (n, T), ln of each answer's token under the law that it was drawn from, 0 elsewhere;
    `ended` bool (n,), whether the answer has come to its end.
    """

    ids: Tensor
    answer: Tensor
    log_probs: Tensor
    ended: Tensor


@torch.no_grad()
def write(
    net: nn.Module,
    prompts: Tensor,
    lengths: Tensor,
    longest: int,
    *,
    end: int | None = None,
    samples: int = 1,
    decoding: Decoding | None = None,
    draft: nn.Module | None = None,
    ahead: int = 4,
) -> Written:
    """Write answers to prompts, drawn from torch's global state.

    All texts go forward together from the end of the shortest prompt, and a longer prompt joins them when they have
    grown to its length: nothing is filled up on the left and no position is moved. Prompts are read once for all their
    samples. Texts that have ended leave the batch as soon as they are a quarter of it.

    Args:
        net: maps ids (n, T) to logits (n, T, vocabulary), and perhaps reads on from a `cache`, see
            `modules.networks.cache`.
        prompts: int64 (B, T), filled up on the right.
        lengths: of the prompts, at least 1, int64 (B,).
        longest: tokens of an answer at most.
        end: the token that ends an answer, which is part of it; None: all answers have `longest` tokens.
        samples: answers to each prompt; they lie one after the other.
        decoding: how tokens are drawn; None: from the law of the network.
        draft: a faster network that proposes tokens; the law stays that of `net`, see
            `modules.language.readers.Speculator`.
        ahead: tokens that it proposes at a time, at least 1.

    Returns:
        B * samples texts.
    """
    decoding = decoding or Decoding()
    each = lengths.tolist()
    total = max(each) + longest
    ids = nn.functional.pad(prompts, (0, total - prompts.shape[1])).repeat_interleave(samples, 0)
    last = lengths.repeat_interleave(samples) + longest
    place = torch.arange(total, device=ids.device)
    ids = torch.where(place < (last - longest)[:, None], ids, 0)
    log_probs = torch.zeros(ids.shape, dtype=torch.float32, device=ids.device)
    over = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)  # the end has been written
    answer = torch.zeros_like(ids, dtype=torch.bool)
    reader = Reader(net, total, samples) if draft is None else Speculator(net, draft, total, samples, ahead)
    active = torch.empty(0, dtype=torch.long, device=ids.device)
    joins = [*sorted(set(each)), total]
    position = joins[0]
    while position < total:
        if position == joins[0]:
            joins.pop(0)
            rows = torch.tensor([row for row, length in enumerate(each) if length == position], device=ids.device)
            reader.begin(prompts[rows, :position])
            texts = rows[:, None] * samples + torch.arange(samples, device=ids.device)
            active = torch.cat([active, texts.flatten()])
        if not len(active):
            position = joins[0]
            continue
        drawn, said = reader.drawn(decoding, joins[0] - position, ~over[active] & (position < last[active]))
        for token, log_prob in zip(drawn.unbind(1), said.unbind(1), strict=True):
            own = ~over[active] & (position < last[active])
            token = torch.where(own, token, 0)
            ids[active, position] = token
            log_probs[active, position] = torch.where(own, log_prob, 0.0)
            answer[active, position] = own
            if end is not None:
                over[active] |= own & (token == end)
            position += 1
        if position == total:
            break
        going = ~over[active] & (position < last[active])
        left = int(going.sum())
        if 4 * left <= 3 * len(active):
            active, token = active[going], token[going]
            reader.keep(going)
        if left:
            reader.read(ids[:, :position], token[:, None], active)
    return Written(ids, answer, log_probs, over)
