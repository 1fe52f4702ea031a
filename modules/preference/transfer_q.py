"""Decoding that looks ahead with an aligned policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from compendium.errors import UserError
from datamodules.spec import DataSpec
from modules.capabilities import AnswerScorer
from modules.language.combined import LogLinear
from modules.language.decoding import Decoding
from modules.language.generation import write
from modules.preference.decoded import Decoded
from modules.preference.reward_model import RewardModel


@dataclass
class Begun:
    """Texts that are being written.

    Attributes:
        base: what the network of the base has kept of them.
        ids: the texts, int64 (rows, length).
        start: where their answers begin, int64 (rows,).
    """

    base: Any
    ids: Tensor
    start: Tensor

    @property
    def length(self) -> int:
        """How many tokens of each text were read."""
        return self.ids.shape[1]

    def select(self, rows: Tensor) -> Self:
        """See `modules.networks.cache.Cache`."""
        return type(self)(self.base.select(rows), self.ids[rows], self.start[rows])

    def join(self, other: Self) -> Self:
        """See `modules.networks.cache.Cache`."""
        rows = torch.cat([self.ids, other.ids]), torch.cat([self.start, other.start])
        return type(self)(self.base.join(other.base), *rows)

    def crop(self, length: int) -> None:
        """See `modules.networks.cache.Cache`."""
        self.base.crop(length)
        self.ids = self.ids[:, :length]


class LookAhead(nn.Module):
    """p(z | s) ~ p_base(z | s) exp(Q(s, z) / alpha) over the `top_k` most probable z of the base.

        Q(s, z) = sum_j w_j r(s, z, tau_j),  w_j ~ 1 or, with `from_reward`, exp((r - r_from)(s, z, tau_j) / beta)

    with `rollouts` continuations tau_j by another network; without any Q(s, z) = r(s, z). All candidates of all texts
    go on in one batch.

    Args:
        base: a network.
        ahead: the network that goes on.
        reward: r.
        from_reward: the reward that `ahead` was aligned with; None: r itself.
        alpha, beta, top_k, rollouts, temperature, end: see `TransferQ`.
        context: tokens of the longest text.
    """

    def __init__(
        self,
        base: nn.Module,
        ahead: nn.Module,
        reward: AnswerScorer,
        from_reward: AnswerScorer | None,
        *,
        alpha: float,
        beta: float,
        top_k: int,
        rollouts: int,
        temperature: float,
        end: int | None,
        context: int,
    ) -> None:
        super().__init__()
        self.base, self.ahead = LogLinear([base], [1.0]), ahead
        self.reward, self.from_reward = reward, from_reward
        self.alpha, self.beta, self.top_k, self.rollouts, self.end = alpha, beta, top_k, rollouts, end
        self.decoding, self.context = Decoding(temperature), context

    def cache(self, rows: int, length: int) -> Begun:
        """See `modules.networks.cache.CachedNet`; what is read first are the prompts."""
        base = self.base.cache(rows, length)
        return Begun(base, base.ids, base.ids.new_zeros(rows))

    @torch.no_grad()
    def advance(self, ids: Tensor, cache: Begun, keep: int | None = None) -> Tensor:
        """See `modules.networks.cache.CachedNet`; it looks ahead from the last token alone: logits (rows, 1, V)."""
        logits = self.base.advance(ids, cache.base, keep=1)[:, -1]
        if not cache.length:
            cache.start = torch.full_like(cache.start, ids.shape[1])
        cache.ids = torch.cat([cache.ids, ids], 1)
        return self.law(logits, cache.ids, cache.start)[:, None]

    @torch.no_grad()
    def token_log_probs(self, ids: Tensor, answer: Tensor) -> Tensor:
        """See `modules.preference.policy.token_log_probs`; it looks ahead from each place anew."""
        logits, found = self.base(ids[:, :-1]), torch.zeros(ids[:, 1:].shape, device=ids.device)
        start = answer.int().argmax(1)
        for place in answer.any(0).nonzero()[:, 0].tolist():
            rows = answer[:, place].nonzero()[:, 0]
            law = self.law(logits[rows, place - 1], ids[rows, :place], start[rows]).log_softmax(1)
            found[rows, place - 1] = law.gather(1, ids[rows, place, None])[:, 0]
        return found

    def law(self, logits: Tensor, ids: Tensor, start: Tensor) -> Tensor:
        """Logits of the base (n, V) after texts int64 (n, t) whose answers begin at `start` (n,) -> logits (n, V)."""
        log_base, token = logits.log_softmax(1).topk(min(self.top_k, logits.shape[1]))
        count = token.shape[1]
        texts = torch.cat([ids.repeat_interleave(count, 0), token.view(-1, 1)], 1)
        values = self.values(texts, start.repeat_interleave(count)).view(token.shape)
        return torch.full_like(logits, -torch.inf).scatter(1, token, log_base + values.to(log_base) / self.alpha)

    def values(self, texts: Tensor, start: Tensor) -> Tensor:
        """Texts int64 (n, t) whose answers begin at `start` (n,) -> Q (n,)."""
        place = torch.arange(self.context, device=texts.device)
        values = self.reward.answer_scores(texts, place[: texts.shape[1]] >= start[:, None])
        room = self.context - texts.shape[1]
        going = torch.ones_like(start, dtype=torch.bool) if self.end is None else texts[:, -1] != self.end
        if not self.rollouts or not room or not going.any():
            return values
        lengths = torch.full_like(start[going], texts.shape[1])
        written = write(
            self.ahead, texts[going], lengths, room, end=self.end, samples=self.rollouts, decoding=self.decoding
        )
        began = start[going].repeat_interleave(self.rollouts)
        # The tokens of the answer: those that were there, and those that were written.
        answer = written.answer | ((place >= began[:, None]) & (place < texts.shape[1]))
        reward = self.reward.answer_scores(written.ids, answer).view(-1, self.rollouts)
        weight = torch.zeros_like(reward)
        if self.from_reward is not None:
            before = self.from_reward.answer_scores(written.ids, answer).view(-1, self.rollouts)
            weight = (reward - before) / self.beta
        return values.masked_scatter(going, (weight.softmax(1) * reward).sum(1))


class TransferQ(Decoded):
    """Token by token the policy that is best for a reward, from what an aligned policy would go on to say; Transfer Q*.

        pi(z | s) ~ pi_ref(z | s) exp(TQ(s, z) / alpha)     over the top k tokens z of pi_ref
        TQ(s, z)  = E r(s, z, tau),  tau ~ rho_BL(. | s, z)

    rho_BL is the `baseline`, aligned with r (direct transfer), by DPO for instance, or with another reward r_BL
    (`baseline_reward`, indirect transfer): its continuations then weigh exp((r - r_BL) / beta), which makes of the
    policy that is best for r_BL the one that is best for r. Two baselines of the paper are the same code: without a
    `baseline` tau comes from pi_ref (controlled decoding with the Q of pi_ref, Mudgal et al.), and with no `rollouts`
    the reward judges the unfinished text (ARGS, Khanov et al.).

    The paper's abstract was read, the rest is from memory.

    Deviations from the paper:
        1. TQ is a mean over `rollouts`; by default one, of the most probable tokens, so that the law is a function of
           the text. With several drawn ones `answer_log_probs` looks ahead anew, and is as noisy.
        2. Weights of the indirect case are normalised over the continuations of each token.

    Args:
        spec: text with answers.
        model: checkpoint of pi_ref, the base.
        baseline: checkpoint of the policy that goes on; None: pi_ref.
        reward: checkpoint of a `RewardModel`, r.
        baseline_reward: checkpoint of that which the baseline was aligned with; None: r.
        alpha: price of divergence at a token, above 0, in units of the reward.
        beta: of the indirect case, above 0, in units of the reward.
        top_k: tokens that are looked at, at least 1; 10 as in the paper, from memory.
        rollouts: of each token, at least 0.
        temperature: of the rollouts, at least 0; 0: the most probable tokens.
        end: the token that ends an answer, 0 with the project's own tokenizers; None: they fill the context.
        parts: `net`, see `Decoded`; parts without a checkpoint are the network as it begins.

    Raises:
        UserError: a value out of range, several rollouts that would all be the same, see `Decoded`.
    """

    papers = ("chakraborty2024transfer",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        model: str | Mapping[str, Any] | None = None,
        baseline: str | Mapping[str, Any] | None = None,
        reward: str | Mapping[str, Any] | None = None,
        baseline_reward: str | Mapping[str, Any] | None = None,
        alpha: float = 1.0,
        beta: float = 1.0,
        top_k: int = 10,
        rollouts: int = 1,
        temperature: float = 0.0,
        end: int | None = 0,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if not min(alpha, beta) > 0 or top_k < 1 or rollouts < 0 or temperature < 0:
            raise UserError(
                f"model.alpha={alpha} model.beta={beta} model.top_k={top_k} model.rollouts={rollouts} "
                f"model.temperature={temperature}: above 0, above 0, at least 1, at least 0, at least 0."
            )
        if rollouts > 1 and temperature == 0:
            raise UserError(f"model.rollouts={rollouts}: the most probable tokens are always the same.", "rollouts=1")
        scorer = self.opened("reward", reward, RewardModel) or RewardModel(self.spec, net=self._net)
        other = self.opened("baseline_reward", baseline_reward, RewardModel)
        for each in filter(None, (scorer, other)):
            each.requires_grad_(False).train()
        base = self.net_of(self.opened("model", model))
        ahead = base if baseline is None else self.net_of(self.opened("baseline", baseline))
        self.net = LookAhead(
            base, ahead, scorer, other,
            alpha=alpha, beta=beta, top_k=top_k, rollouts=rollouts, temperature=temperature, end=end,
            context=self.context[0],
        )  # fmt: skip

    @property
    def anchor(self) -> nn.Module:
        return self.net.base
