"""How texts that are written go on: what a network says after them, alone or of what a faster one proposes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from compendium.errors import UserError
from modules.language.decoding import Decoding, draw


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

    def drawn(self, decoding: Decoding, room: int, going: Tensor) -> tuple[Tensor, Tensor]:
        """What comes next in each text, and ln of what it was drawn with: (n, k) each, k from 1 to `room` tokens.

        The last one of them is to be read. `going`, bool (n,), says which texts have not ended.
        """
        law = decoding.law(self.logits)
        token = draw(law)
        return token, law.gather(1, token)

    def read(self, texts: Tensor, token: Tensor, active: Tensor) -> None:
        """Read one more token (n, 1) of the `active` rows of all texts (N, T) so far."""
        if self.cached:
            self.logits = self.net.advance(token, self.cache)[:, -1]  # type: ignore[operator]
        else:
            self.logits = self.net(texts[active])[:, -1]


class Speculator:
    """What a network says of several tokens that a faster one proposes, in one pass of it.

    A proposed token z, drawn from the draft's law q, is kept with probability min(1, p(z) / q(z)); the first one that
    isn't gives way to one from max(p - q, 0), normalised; and if all are kept the network says one more. Every token
    then has the law p of the network, whatever the draft (Leviathan et al. 2023, from memory; Chen et al. 2023).

    All texts keep as many tokens as the one that keeps the fewest, so that they stay equally long: what others would
    have kept beyond is proposed again. A token is drawn by p whatever came before it, which that does not change.

    Args:
        net, draft: networks of the same vocabulary that read on from a cache, see `modules.networks.cache`.
        total: tokens of the longest text.
        samples: texts that go on from each prompt.
        ahead: tokens that are proposed at a time.

    Raises:
        UserError: a network without a cache, or nothing proposed.
    """

    def __init__(self, net: nn.Module, draft: nn.Module, total: int, samples: int, ahead: int) -> None:
        for each in (net, draft):
            if not hasattr(each, "cache"):
                raise UserError(
                    f"{type(each).__name__} cannot go on from what it has read, so that tokens cannot be proposed.",
                    "write without a draft",
                )
        if ahead < 1:
            raise UserError(f"ahead={ahead}: at least one token is proposed.")
        self.nets: tuple[Any, Any] = (net, draft)
        self.total, self.samples, self.ahead = total, samples, ahead
        self.caches: list[Any] = []
        self.pending: Tensor
        """The last token of each text (n, 1), which neither network has read."""

    def begin(self, prompts: Tensor) -> None:
        """See `Reader`."""
        rows = torch.arange(len(prompts), device=prompts.device).repeat_interleave(self.samples)
        begun = []
        for net in self.nets:
            cache = net.cache(len(prompts), self.total)
            if prompts.shape[1] > 1:
                net.advance(prompts[:, :-1], cache, keep=1)
            begun.append(cache.select(rows) if self.samples > 1 else cache)
        pending = prompts[rows, -1:]
        if self.caches:
            begun = [cache.join(new) for cache, new in zip(self.caches, begun, strict=True)]
            pending = torch.cat([self.pending, pending])
        self.caches, self.pending = begun, pending

    def keep(self, going: Tensor) -> None:
        """See `Reader`."""
        rows = going.nonzero()[:, 0]
        self.caches = [cache.select(rows) for cache in self.caches] if len(rows) else []
        self.pending = self.pending[rows]

    def read(self, texts: Tensor, token: Tensor, active: Tensor) -> None:
        """See `Reader`; it is read with what is proposed after it."""
        self.pending = token

    def drawn(self, decoding: Decoding, room: int, going: Tensor) -> tuple[Tensor, Tensor]:
        """See `Reader`."""
        proposed, other = self.proposed(decoding, min(self.ahead, room - 1))
        count = proposed.shape[1]
        (net, draft), (read, drafted) = self.nets, self.caches
        start = read.length
        logits = net.advance(torch.cat([self.pending, proposed], 1), read)
        if logits.shape[1] != count + 1:
            raise UserError(f"{type(net).__name__} looks at one token at a time, so that none can be proposed.")
        law = decoding.law(logits.flatten(0, 1)).view(logits.shape)
        kept, token = self.judged(proposed, law, other, going)
        read.crop(start + kept + 1)
        if kept == count:
            draft.advance(torch.cat([self.pending, proposed], 1)[:, -1:], drafted, keep=1)
        drafted.crop(start + kept + 1)
        tokens = torch.cat([proposed[:, :kept], token], 1)
        return tokens, law[:, : kept + 1].gather(2, tokens[..., None])[..., 0]

    def proposed(self, decoding: Decoding, count: int) -> tuple[Tensor, Tensor]:
        """The draft's next tokens int64 (n, count), and the laws that they were drawn from (n, count, vocabulary)."""
        tokens, laws = [self.pending], []
        for _ in range(count):
            laws.append(decoding.law(self.nets[1].advance(tokens[-1], self.caches[1], keep=1)[:, -1]))
            tokens.append(draw(laws[-1]))
        proposed = torch.cat(tokens[1:], 1) if count else self.pending[:, :0]
        return proposed, torch.stack(laws, 1) if count else proposed.new_zeros(len(proposed), 0, 1).float()

    @staticmethod
    def judged(proposed: Tensor, law: Tensor, other: Tensor, going: Tensor) -> tuple[int, Tensor]:
        """How many proposed tokens all texts keep, and the token after them (n, 1).

        Args:
            proposed: int64 (n, k).
            law: ln p (n, k + 1, vocabulary).
            other: ln q (n, k, vocabulary).
            going: texts that have not ended, bool (n,); the others keep what is proposed.
        """
        count = proposed.shape[1]
        ratio = law[:, :count].gather(2, proposed[..., None]) - other.gather(2, proposed[..., None])
        chance = torch.rand(proposed.shape, dtype=torch.float64, device=proposed.device).log()
        good = (chance < ratio[..., 0]) | ~going[:, None]
        accepted = good.long().cumprod(1).sum(1)
        kept = int(accepted.min())
        if kept == count:
            return kept, draw(law[:, kept])
        residual = (law[:, kept].exp() - other[:, kept].exp()).clamp_min(0)
        # Where the laws are the same up to rounding nothing is left, and nothing was refused.
        instead = torch.where(residual.sum(1, keepdim=True) > 0, residual.log(), law[:, kept]).log_softmax(1)
        return kept, torch.where((accepted > kept)[:, None], proposed[:, kept : kept + 1], draw(instead))
