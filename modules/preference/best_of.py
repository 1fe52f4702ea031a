"""Best of n: of several answers of a policy, the one that a reward model likes best."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from compendium.errors import UserError
from compendium.seeding import seeded
from datamodules.spec import DataSpec
from modules.language.generation import Written
from modules.preference.decoded import Decoded
from modules.preference.optimum import best_of, gain_of_best
from modules.preference.policy import all_sequences
from modules.preference.reward_model import RewardModel

ROUNDING = 1e-5
"""Rewards that differ by less, beside 1 or themselves, are the same: batches of other sizes round otherwise."""


class BestOf(Decoded):
    """Of n independent answers y to a prompt x by a base pi_ref, the one with the highest r(x, y).

        pi(y | x) = pi_ref(y | x) (F(y)^n - (F(y) - p(y))^n) / p(y)

    with F(y) the probability under pi_ref of a reward up to r(x, y), and p(y) that of one equal to it. Where no two
    answers are worth the same, KL(pi | pi_ref) = ln n - (n - 1) / n nats if no answer is probable, and less otherwise.
    The baseline of RLHF's papers (Stiennon et al. 2020; Nakano et al. 2021); the formula is combinatorics.

    Where all answers can be listed the law is exact, see `modules.preference.optimum.best_of`. Of written answers F and
    p are shares of `draws` further answers of pi_ref, the same ones whenever it is asked; an answer that was not among
    them has p = pi_ref(y | x). Its logarithms have that sampling error, about (n - 1) / sqrt(draws) at F = 1 / 2, and
    much less where the best of n lie.

    Between answers that are worth the same (to 1e-5 of it, which is rounding) the first one is kept, so that the base
    decides. Laws of listed answers are given that pi_ref says one of them.

    Args:
        spec: text with answers.
        model: checkpoint of pi_ref, the base.
        reward: checkpoint of a `RewardModel`, r.
        answers: n, at least 1; 16 is of the order of the papers above (up to 64), from memory.
        draws: that estimate the law of written answers, at least 1.
        end: the token that ends an answer, 0 with the project's own tokenizers; None: they fill the context.
        parts: `net`, see `Decoded`; parts without a checkpoint are the network as it begins.

    Raises:
        UserError: a value out of range, see `Decoded`.
    """

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        model: str | Mapping[str, Any] | None = None,
        reward: str | Mapping[str, Any] | None = None,
        answers: int = 16,
        draws: int = 128,
        end: int | None = 0,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if answers < 1 or draws < 1:
            raise UserError(f"model.answers={answers} model.draws={draws}: at least 1 each.")
        self.answers, self.draws, self.end = answers, draws, end
        self.net = self.net_of(self.opened("model", model))
        self.reward = self.opened("reward", reward, RewardModel) or RewardModel(self.spec, net=self._net)
        self.reward.requires_grad_(False).train()

    @property
    def anchor(self) -> nn.Module:
        return self.net

    def write_answers(
        self, prompts: Tensor, lengths: Tensor, longest: int, *, samples: int = 1, **more: Any
    ) -> Written:
        """See `AnswerWriter`; the temperature is that of the n answers. `log_probs` are those of the base."""
        written = super().write_answers(prompts, lengths, longest, samples=samples * self.answers, **more)
        scores = self.reward.answer_scores(written.ids, written.answer).view(-1, self.answers)
        first = torch.arange(len(scores), device=scores.device) * self.answers
        best = first + scores.argmax(1)
        return Written(*(part[best] for part in written))

    @torch.no_grad()
    def answer_log_probs(self, ids: Tensor, answer: Tensor) -> Tensor:
        texts, of_answer = ids.flatten(0, -2), answer.flatten(0, -2)
        log_base = super().answer_log_probs(texts, of_answer)
        reward = self.reward.answer_scores(texts, of_answer)
        others = self.rewards_of_draws(texts, of_answer)
        above = others - reward[:, None]
        rounding = ROUNDING * (1 + reward.abs())[:, None]
        below = (above < -rounding).double().mean(1)
        equal = (above.abs() <= rounding).double().mean(1)
        equal = torch.where(equal > 0, equal, log_base.double().exp())
        upto = (below + equal).clamp(max=1.0)
        gain = gain_of_best(upto, equal / upto, self.answers)
        return (log_base + gain.to(log_base)).view(ids.shape[:-1])

    def rewards_of_draws(self, texts: Tensor, answer: Tensor) -> Tensor:
        """Texts int64 (n, T) and which tokens are the answers' -> rewards of other answers to their prompts (n, draws).

        Texts with the same prompt have the same draws.
        """
        lengths = answer.int().argmax(1)
        place = torch.arange(texts.shape[1], device=texts.device)
        prompts, which = torch.where(place < lengths[:, None], texts, -1).unique(dim=0, return_inverse=True)
        lengths = (prompts >= 0).sum(1)
        room = int(lengths.max())
        prompts, longest = prompts[:, :room].clamp_min(0), self.context[0] - room
        with seeded(0, "best of n"):
            written = super().write_answers(prompts, lengths, longest, end=self.end, samples=self.draws)
        return self.reward.answer_scores(written.ids, written.answer).view(-1, self.draws)[which]

    @torch.no_grad()
    def all_log_probs(self, prompts: Tensor, answers: Tensor) -> Tensor:
        log_base = super().all_log_probs(prompts, answers)
        rewards = self.reward.answer_scores(*all_sequences(prompts, answers))
        listed = log_base.logsumexp(1, keepdim=True)
        return best_of(log_base, rewards, self.answers).to(log_base) + listed
