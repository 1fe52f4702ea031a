"""The policy that is best for learned rewards at a price, or within a budget, of divergence; in closed form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.batches import Demonstrations
from datamodules.spec import DataSpec
from modules.capabilities import AnswerScorer
from modules.method import SolvedMethod, method_of
from modules.preference.optimum import divergence, tilted
from modules.preference.policy import all_sequences


class OptimalPolicy(SolvedMethod):
    """pi(y | x) ~ pi_ref(y | x) exp(u(x, y) / beta) for prompts and answers of one token: where RLHF would end.

        u = sum_i w_i r_i                            `transform` none: a weighted sum of rewards
        u = sum_i w_i ln sigma(r_i - r_i^ref(x))     `transform` log_sigmoid (Wang et al. 2024, the LSC transform)

    with r_i^ref(x) the `quantile` of r_i of answers to x under pi_ref. By Bradley and Terry's model r_i - r_i^ref is
    the log odds that an answer is better than the reference's, "good" in respect i, so that the sum is the log
    probability of one that is good in all respects: a logical and, in which a high reward counts little.

    pi_ref is what was recorded: (count + smoothing) / sum, of the answers to each prompt; a further pass adds to it.

    The transform is that of the paper's abstract and of secondary sources; the paper itself could not be read.

    Deviations from the paper:
        1. The optimum is exact, where the paper's policies are trained by PPO, and so is the quantile.

    Args:
        spec: text of two tokens with preferences.
        rewards: checkpoints of `AnswerScorer`s; none: the true reward of the data's world.
        weights: w, one for each reward; None: 1.
        transform: `none` or `log_sigmoid`.
        quantile: of the reference reward, in (0, 1); 0.85 as in the paper, by secondary sources.
        beta: price of divergence, above 0, in units of u.
        kl: mean divergence from pi_ref over prompts that beta is found for, nats, above 0; None: beta as it is.
        smoothing: added to each count, above 0; 0.5 is Jeffreys' prior.

    Raises:
        UserError: a value out of range, longer texts, a checkpoint of no `AnswerScorer`, a divergence out of reach.
    """

    batch_type = Demonstrations
    kinds = ("text",)
    targets = ("preference",)
    papers = ("wang2024transforming",)

    counts: Tensor
    utility: Tensor
    price: Tensor

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        rewards: Sequence[str] = (),
        weights: Sequence[float] | None = None,
        transform: str = "none",
        quantile: float = 0.85,
        beta: float = 1.0,
        kl: float | None = None,
        smoothing: float = 0.5,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if self.spec.shape != (2,):
            raise UserError(f"{type(self).__name__} lists prompts and answers of one token.", "data=bandit")
        if transform not in ("none", "log_sigmoid"):
            raise UserError(f"model.transform={transform} is unknown.", "there are: none, log_sigmoid")
        if not 0 < quantile < 1 or not min(beta, smoothing, 1.0 if kl is None else kl) > 0:
            raise UserError(
                f"model.quantile={quantile} model.beta={beta} model.kl={kl} model.smoothing={smoothing}: "
                "in (0, 1), and above 0."
            )
        if weights is not None and len(weights) != max(1, len(rewards)):
            raise UserError(f"model.weights={list(weights)}: one for each of {max(1, len(rewards))} rewards.")
        self.rewards, self.weights, self.transform, self.quantile = list(rewards), weights, transform, quantile
        self.beta, self.kl, self.smoothing = beta, kl, smoothing
        table = (int(self.spec.vocabulary or 0),) * 2
        self.register_buffer("counts", torch.zeros(table, dtype=torch.float64))
        self.register_buffer("utility", torch.zeros(table, dtype=torch.float64))
        self.register_buffer("price", torch.ones((), dtype=torch.float64))

    def accumulate(self, batch: Demonstrations) -> None:
        index = batch.ids[:, 0] * len(self.counts) + batch.ids[:, 1]
        counted = torch.bincount(index, minlength=self.counts.numel()).view(self.counts.shape)
        self.counts += self.sum_of_all(counted.double())

    def solve(self) -> None:
        world = self.trainer.datamodule.world
        prompts, answers = world.prompts.to(self.device), world.answers.to(self.device)
        rows, columns = prompts[:, 0, None], answers[None, :, 0]
        reference = self.log_reference()[rows, columns]
        scores = self.scores(prompts, answers, world.reward)
        if self.transform == "log_sigmoid":
            scores = F.logsigmoid(scores - reference_reward(scores, reference.exp(), self.quantile))
        weight = scores.new_tensor([1.0] * len(scores) if self.weights is None else list(self.weights))
        utility = torch.einsum("i,ipa->pa", weight, scores)
        self.utility[rows, columns] = utility
        self.price.fill_(self.beta if self.kl is None else price_of(reference, utility, self.kl))

    def scores(self, prompts: Tensor, answers: Tensor, reward: Tensor) -> Tensor:
        """All answers to all prompts, by each reward (rewards, P, A), float64."""
        if not self.rewards:
            return reward[None].to(prompts.device)
        lack = "which scores no answers"
        scorers = [method_of(path, AnswerScorer, "model.rewards", lack) for path in self.rewards]
        ids = all_sequences(prompts, answers)
        return torch.stack([scorer.to(prompts.device).answer_scores(*ids).double() for scorer in scorers])

    def log_reference(self) -> Tensor:
        """ln pi_ref of all tokens after all tokens (V, V)."""
        return (self.counts + self.smoothing).log().log_softmax(1)

    def all_log_probs(self, prompts: Tensor, answers: Tensor) -> Tensor:
        """See `AnswerPolicy`."""
        law = tilted(self.log_reference(), self.utility, float(self.price))
        return law[prompts[:, 0, None], answers[None, :, 0]]

    def all_reference_log_probs(self, prompts: Tensor, answers: Tensor) -> Tensor:
        """See `ReferencedPolicy`."""
        return self.log_reference()[prompts[:, 0, None], answers[None, :, 0]]


def reference_reward(scores: Tensor, law: Tensor, quantile: float) -> Tensor:
    """Scores (..., P, A) and a law (P, A) -> the least score that is not below a share of the law (..., P, 1)."""
    ordered, order = scores.sort(-1)
    upto = law.expand_as(scores).gather(-1, order).cumsum(-1)
    place = (upto < quantile * upto[..., -1:]).sum(-1, keepdim=True)
    return ordered.gather(-1, place)


def price_of(log_reference: Tensor, utility: Tensor, kl: float) -> float:
    """The beta at which the best policy is `kl` nats from the reference, the mean over prompts: by bisection.

    Raises:
        UserError: further than any beta leads.
    """
    spread = float((utility.amax(1) - utility.amin(1)).max())
    low, high = 1e-4 * spread + 1e-300, 1e4 * spread + 1e-300
    if float(divergence(tilted(log_reference, utility, low), log_reference).mean()) < kl:
        raise UserError(f"model.kl={kl}: no policy that is best for these rewards is as far from the reference.")
    for _ in range(100):
        middle = (low * high) ** 0.5
        far = float(divergence(tilted(log_reference, utility, middle), log_reference).mean()) > kl
        low, high = (middle, high) if far else (low, middle)
    return high
