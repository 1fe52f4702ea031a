"""Texts that a network writes: batched, from a cache where it has one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from compendium.errors import UserError


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


@dataclass(frozen=True)
class Decoding:
    """How a token is drawn from the logits of a network.

    Args:
        temperature: the logits are divided by it; 0: the most probable token.
        top_k: only so many of the most probable tokens; None: all.
        top_p: only the most probable tokens that have this probability together (Holtzman et al. 2020); 1: all.

    Raises:
        UserError: a value out of range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature < 0 or not 0 < self.top_p <= 1 or (self.top_k is not None and self.top_k < 1):
            raise UserError(
                f"temperature={self.temperature} top_k={self.top_k} top_p={self.top_p}: "
                "at least 0, at least 1, and in (0, 1]."
            )

    def law(self, logits: Tensor) -> Tensor:
        """Logits (n, vocabulary) -> ln of what tokens are drawn with, float32 (n, vocabulary)."""
        logits = logits.float()
        if self.temperature == 0:
            only = torch.full_like(logits, -torch.inf)
            return only.scatter(1, logits.argmax(1, keepdim=True), 0.0)
        if self.temperature != 1:
            logits = logits / self.temperature
        if self.top_k is not None and self.top_k < logits.shape[1]:
            logits = logits.masked_fill(logits < logits.topk(self.top_k).values[:, -1:], -torch.inf)
        if self.top_p < 1:
            ranked, order = logits.softmax(1).sort(1, descending=True)
            beyond = ranked.cumsum(1) - ranked >= self.top_p
            logits = logits.masked_fill(beyond.gather(1, order.argsort(1)), -torch.inf)
        return logits.log_softmax(1)


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
) -> Written:
    """Write answers to prompts, drawn from torch's global state.

    All texts go forward together from the end of the shortest prompt: where a prompt is longer, its own token stands in
    the place of a drawn one, so that nothing is filled up on the left and no position is moved. Prompts are read once
    for all their samples. Texts that have ended leave the batch as soon as they are half of it.

    Args:
        net: maps ids (n, T) to logits (n, T, vocabulary), and perhaps reads on from a `cache`, see
            `modules.networks.cache`.
        prompts: int64 (B, T), filled up on the right.
        lengths: of the prompts, at least 1, int64 (B,).
        longest: tokens of an answer at most.
        end: the token that ends an answer, which is part of it; None: all answers have `longest` tokens.
        samples: answers to each prompt; they lie one after the other.
        decoding: how tokens are drawn; None: from the law of the network.

    Returns:
        B * samples texts.
    """
    decoding = decoding or Decoding()
    shortest, total = int(lengths.min()), int(lengths.max()) + longest
    ids = nn.functional.pad(prompts, (0, total - prompts.shape[1])).repeat_interleave(samples, 0)
    length = lengths.repeat_interleave(samples)
    place = torch.arange(total, device=ids.device)
    given = place < length[:, None]
    log_probs = torch.zeros(ids.shape, dtype=torch.float32, device=ids.device)
    over = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)  # the end has been written
    answer = torch.zeros_like(given)
    reader = Reader(net, prompts[:, :shortest], total, samples)
    active = torch.arange(len(ids), device=ids.device)
    for position in range(shortest, total):
        law = decoding.law(reader.logits)
        drawn = law.exp().multinomial(1)
        is_given = given[active, position]
        token = torch.where(is_given, ids[active, position], drawn[:, 0])
        own = ~is_given & ~over[active] & (position < length[active] + longest)
        ids[active, position] = torch.where(is_given | own, token, 0)
        log_probs[active, position] = torch.where(own, law.gather(1, drawn)[:, 0], 0.0)
        answer[active, position] = own
        if end is not None:
            over[active] |= own & (token == end)
        going = ~over[active] & (position + 1 < length[active] + longest)
        left = int(going.sum())
        if not left or position + 1 == total:
            break
        if 2 * left <= len(active):
            active, token = active[going], token[going]
            reader.keep(going)
        reader.read(ids[:, : position + 1], token[:, None], active)
    return Written(ids, answer, log_probs, over)


class Reader:
    """What a network says after the texts so far, from a cache or by reading them again.

    Args:
        net: a network.
        begun: how the prompts begin, int64 (B, T).
        total: tokens of the longest text.
        samples: texts that go on from each prompt.
    """

    logits: Tensor
    """Of the next token (n, vocabulary)."""

    def __init__(self, net: nn.Module, begun: Tensor, total: int, samples: int) -> None:
        self.net = net
        self.cache: Any = net.cache(len(begun), total) if hasattr(net, "cache") else None  # type: ignore[operator]
        read = net(begun) if self.cache is None else net.advance(begun, self.cache, keep=1)  # type: ignore[operator]
        self.logits = read[:, -1]
        if samples > 1:
            self.select(torch.arange(len(begun), device=begun.device).repeat_interleave(samples))

    def select(self, rows: Tensor) -> None:
        """Go on with some texts alone, or with several from each: rows int64 (n,) of what there was."""
        self.logits = self.logits[rows]
        if self.cache is not None:
            self.cache = self.cache.select(rows)

    def keep(self, going: Tensor) -> None:
        """Go on with the texts that `going`, bool (n,), says."""
        self.select(going.nonzero()[:, 0])

    def read(self, texts: Tensor, token: Tensor, active: Tensor) -> None:
        """Read one more token (n, 1) of the `active` rows of all texts (N, T) so far."""
        if self.cache is None:
            self.logits = self.net(texts[active])[:, -1]
        else:
            self.logits = self.net.advance(token, self.cache)[:, -1]  # type: ignore[operator]
