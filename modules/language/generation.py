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


def draw(law: Tensor) -> Tensor:
    """ln p (n, vocabulary) -> a token of each row int64 (n, 1).

    The distribution function is inverted, in float64: one uniform number a row, where `multinomial` draws as many as
    there are tokens.
    """
    upto = law.exp().cumsum(1, dtype=torch.float64)
    uniform = torch.rand(len(law), 1, dtype=torch.float64, device=law.device)
    # Of tokens with p = 0 the function is that of the token before: `right` never stops at them.
    return torch.searchsorted(upto, uniform * upto[:, -1:], right=True).clamp_max(law.shape[1] - 1)


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
    reader = Reader(net, total, samples)
    active = torch.empty(0, dtype=torch.long, device=ids.device)
    for position in range(min(each), total):
        begun = [row for row, length in enumerate(each) if length == position]
        if begun:
            rows = torch.tensor(begun, device=ids.device)
            reader.begin(prompts[rows, :position])
            texts = rows[:, None] * samples + torch.arange(samples, device=ids.device)
            active = torch.cat([active, texts.flatten()])
        if not len(active):
            continue
        law = decoding.law(reader.logits)
        drawn = draw(law)
        own = ~over[active] & (position < last[active])
        token = torch.where(own, drawn[:, 0], 0)
        ids[active, position] = token
        log_probs[active, position] = torch.where(own, law.gather(1, drawn)[:, 0], 0.0)
        answer[active, position] = own
        if end is not None:
            over[active] |= own & (token == end)
        if position + 1 == total:
            break
        going = ~over[active] & (position + 1 < last[active])
        left = int(going.sum())
        if 4 * left <= 3 * len(active):
            active, token = active[going], token[going]
            reader.keep(going)
        if left:
            reader.read(ids[:, : position + 1], token[:, None], active)
    return Written(ids, answer, log_probs, over)


class Reader:
    """What a network says after the texts so far, from a cache or by reading them again.

    Args:
        net: a network.
        total: tokens of the longest text.
        samples: texts that go on from each prompt.
    """

    logits: Tensor
    """Of the next token (n, vocabulary)."""

    def __init__(self, net: nn.Module, total: int, samples: int) -> None:
        self.net, self.total, self.samples = net, total, samples
        self.cached = hasattr(net, "cache")
        self.cache: Any = None
        self.going = 0

    def begin(self, prompts: Tensor) -> None:
        """Go on from prompts int64 (B, T), too; all other texts have become as long."""
        cache: Any = self.net.cache(len(prompts), self.total) if self.cached else None  # type: ignore[operator]
        read = self.net.advance(prompts, cache, keep=1) if self.cached else self.net(prompts)  # type: ignore[operator]
        logits = read[:, -1]
        if self.samples > 1:
            rows = torch.arange(len(prompts), device=prompts.device).repeat_interleave(self.samples)
            logits, cache = logits[rows], cache.select(rows) if self.cached else None
        if self.going:
            logits, cache = torch.cat([self.logits, logits]), self.cache.join(cache) if self.cached else None
        self.logits, self.cache, self.going = logits, cache, len(logits)

    def keep(self, going: Tensor) -> None:
        """Go on with the texts alone that `going`, bool (n,), says."""
        rows = going.nonzero()[:, 0]
        self.logits, self.going = self.logits[rows], len(rows)
        if self.cached:
            self.cache = self.cache.select(rows)

    def read(self, texts: Tensor, token: Tensor, active: Tensor) -> None:
        """Read one more token (n, 1) of the `active` rows of all texts (N, T) so far."""
        if self.cached:
            self.logits = self.net.advance(token, self.cache)[:, -1]  # type: ignore[operator]
        else:
            self.logits = self.net(texts[active])[:, -1]
