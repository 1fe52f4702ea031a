"""Prompt optimization: a prompter learns to put other prompts before a policy that stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.batches import Demonstrations
from datamodules.spec import DataSpec
from modules.capabilities import AnswerPolicy
from modules.method import Method, method_of


class AlignPro(Method):
    """max over rho of E_{x' ~ rho(x), y ~ pi_F(x')} r(x, y) - lambda KL(rho(x) | rho_sft(x)), the mean over prompts x.

        rho(x' | x) ~ keep^[x' = x] ((1 - keep) / (P - 1))^[x' != x] exp(net(x)[x'])

    over the P prompts of the data, with rho_sft the same as it begins; pi_F is frozen. The optimum is rho* ~ rho_sft
    exp(R / lambda) with R(x, x') = E_{y ~ pi_F(x')} r(x, y), as for any reward with a price on divergence. As a policy
    it is sum_x' rho(x' | x) pi_F(y | x').

    `gradient` is

    - `exact`: of the objective itself, all prompts and answers listed.
    - `sampled`: by `samples` rewritings x' of each prompt and an answer to each, as sum_k A_k grad ln rho(x'_k | x) /
      samples, where A_k is r - lambda ln rho / rho_sft of the k-th less the mean of the others (leave one out).

    Trivedi et al. 2025: objective, optimum and induced policy as an author's own summary has them.

    Deviations from the paper:
        1. Prompts and answers are single tokens, and rewritings are the data's other prompts, where the paper's
           prompters are language models.
        2. The policy gradient is leave-one-out REINFORCE, or exact; the paper's is PPO's.

    Args:
        spec: text of two tokens with preferences.
        target: checkpoint of an `AnswerPolicy`, pi_F; None: who wrote the data's answers.
        price: lambda, above 0, in units of the reward.
        keep: probability by which rho_sft leaves a prompt as it is, where the network is silent; in (0, 1]. 1: there is
            no prompter.
        gradient: one of these.
        samples: at least 2.
        parts: `net`, `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: a value out of range, longer texts, a checkpoint of no `AnswerPolicy`.
    """

    batch_type = Demonstrations
    kinds = ("text",)
    targets = ("preference",)
    papers = ("trivedi2025align",)

    target: Tensor
    worth: Tensor
    listed: Tensor

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        target: str | None = None,
        price: float = 0.1,
        keep: float = 0.5,
        gradient: str = "exact",
        samples: int = 4,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if self.spec.shape != (2,):
            raise UserError(f"{type(self).__name__} lists prompts and answers of one token.", "data=bandit")
        if gradient not in ("exact", "sampled"):
            raise UserError(f"model.gradient={gradient} is unknown.", "there are: exact, sampled")
        if not price > 0 or not 0 < keep <= 1 or samples < 2:
            raise UserError(
                f"model.price={price} model.keep={keep} model.samples={samples}: above 0, in (0, 1], and at least 2."
            )
        self.checkpoint, self.price, self.keep = target, price, keep
        self.gradient, self.samples = gradient, samples
        tokens = int(self.spec.vocabulary or 0)
        self.net = self.build(self.spec.shape, (tokens,))
        self.reference = deepcopy(self.net).requires_grad_(False)
        self.register_buffer("target", torch.zeros(tokens, tokens).softmax(1))
        self.register_buffer("worth", torch.zeros(tokens, tokens))
        self.register_buffer("listed", torch.zeros(tokens, dtype=torch.bool))

    def on_fit_start(self) -> None:
        """Note what the frozen policy says, and what it is worth, of all prompts and answers of the data."""
        world = self.trainer.datamodule.world
        prompts, answers = world.prompts.to(self.device), world.answers.to(self.device)
        law = world.behaviour.log().to(self.worth)
        if self.checkpoint is not None:
            policy = method_of(self.checkpoint, AnswerPolicy, "model.target", "which answers nothing", self.device)
            with torch.no_grad():
                law = policy.to(self.device).all_log_probs(prompts, answers)
        rows, columns = prompts[:, 0, None], answers[None, :, 0]
        self.target.zero_()
        self.target[rows, columns] = law.to(self.target).softmax(1)
        self.worth[rows, columns] = world.reward.to(self.worth)
        self.listed[prompts[:, 0]] = True

    def rewritings(self, prompt: Tensor, net: torch.nn.Module) -> Tensor:
        """Prompts int64 (B,) -> ln rho of all tokens in their place (B, V), -inf for those that are no prompt."""
        others = (1 - self.keep) / (self.listed.sum() - 1).clamp_min(1)
        same = torch.arange(len(self.listed), device=prompt.device) == prompt[:, None]
        prior = torch.where(same, self.keep, others).log()
        logits = net(prompt[:, None])[:, 0].float() + prior
        return logits.masked_fill(~self.listed, -torch.inf).log_softmax(1)

    def loss(self, batch: Demonstrations) -> dict[str, Tensor]:
        prompt = batch.ids[:, 0]
        log_rho, log_sft = self.rewritings(prompt, self.net), self.rewritings(prompt, self.reference)
        if self.gradient == "sampled":
            return {"gain": self.sampled(prompt, log_rho, log_sft)}
        rho = log_rho.exp()
        reward = torch.einsum("xa,ba->bx", self.target, self.worth[prompt])  # R(x, x')
        ratio = torch.where(rho > 0, log_rho - log_sft, 0.0)
        return {"reward": -(rho * reward).sum(1).mean(), "divergence": self.price * (rho * ratio).sum(1).mean()}

    def sampled(self, prompt: Tensor, log_rho: Tensor, log_sft: Tensor) -> Tensor:
        """What has the sampled gradient: prompts (B,), ln rho and ln rho_sft (B, V) -> a scalar."""
        with torch.no_grad():
            rewritten = log_rho.exp().multinomial(self.samples, replacement=True)  # (B, K)
            answer = self.target[rewritten].flatten(0, 1).multinomial(1).view_as(rewritten)
            price = self.price * (log_rho - log_sft).gather(1, rewritten)
            gain = self.worth[prompt[:, None], answer] - price
            advantage = (gain - gain.mean(1, keepdim=True)) * self.samples / (self.samples - 1)
        return -(advantage * log_rho.gather(1, rewritten)).mean()

    def rewriting_log_probs(self, prompts: Tensor) -> tuple[Tensor, Tensor]:
        """See `Rewriter`."""
        token = prompts[:, 0]
        return self.rewritings(token, self.net)[:, token], self.rewritings(token, self.reference)[:, token]

    def target_log_probs(self, prompts: Tensor, answers: Tensor) -> Tensor:
        """See `Rewriter`."""
        return self.target[prompts[:, 0, None], answers[None, :, 0]].log()

    def all_log_probs(self, prompts: Tensor, answers: Tensor) -> Tensor:
        """See `AnswerPolicy`."""
        return self.induced(self.rewriting_log_probs(prompts)[0], prompts, answers)

    def all_reference_log_probs(self, prompts: Tensor, answers: Tensor) -> Tensor:
        """See `ReferencedPolicy`: of the prompter as it began."""
        return self.induced(self.rewriting_log_probs(prompts)[1], prompts, answers)

    def induced(self, log_rho: Tensor, prompts: Tensor, answers: Tensor) -> Tensor:
        """ln rho (P, P) -> ln of the policy of both together (P, A)."""
        return torch.logsumexp(log_rho[:, :, None] + self.target_log_probs(prompts, answers), 1)
