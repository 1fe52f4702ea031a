"""How well scores of answers tell which one people prefer, and where optimizing them would lead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from callbacks.evaluation.base import Evaluation
from callbacks.metrics.calibration import binned_ece
from callbacks.metrics.precision import precise
from compendium.errors import UserError
from datamodules.batches import Preferences
from datamodules.source import World
from modules.capabilities import AnswerScorer, ReferencedPolicy
from modules.preference.optimum import best_of, divergence, tilted
from modules.preference.policy import all_sequences


class ScoredAnswers(Evaluation):
    """Figures of an AnswerScorer on Preferences batches; s is the score, the chosen answer has s_w and the other s_l.

    - `pair_accuracy`: share of pairs with s_w > s_l; ties count half.
    - `pair_nll`: mean of -ln sigma(s_w - s_l), nats.
    - `picked_reward`: what the answer with the higher score is worth, where a judge has scored both, and
      `picked_best`: share of pairs in which it is worth at least as much as the other one.
    - `pair_ece`: expected calibration error, with 15 bins of equal width, of the confidence sigma(|s_w - s_l|).

    Where the world's answers can be listed, over all of them, prompts even, and r their true reward:

    - `gold_correlation`: Pearson's, of s and r less their means of each prompt.
    - `gold_pair_accuracy`: share of pairs of answers to one prompt that s orders as r does; ties of s count half.
    - `recorded_correlation`, `recorded_pair_accuracy`: the same with answers weighted as they are recorded, by mu.
    - `reference_reward`: mean of r under pi_ref, the reference of the method, where it is a policy that has one, or mu.
    - `tilted_reward`, `tilted_kl`: mean of r under pi_ref exp(s / beta) / Z, and its divergence from pi_ref, nats.
    - `best_of_reward`, `best_of_kl`: the same of the best of `best_of` draws from pi_ref by s.

    Args:
        beta: price of divergence, above 0, in units of the scores; 0.1 as for `gold`.
        best_of: number of draws, at least 1; 16 is of Gao et al.'s order (2023), from memory.
        parts: the arguments of `Evaluation`.

    Raises:
        UserError: a value out of range.
    """

    capabilities = (AnswerScorer,)
    batch_type = Preferences

    def __init__(self, beta: float = 0.1, best_of: int = 16, **parts: Any) -> None:
        super().__init__(**parts)
        if not beta > 0 or not best_of >= 1:
            raise UserError(f"{self.name}.beta={beta} {self.name}.best_of={best_of}: above 0, and at least 1.")
        self.beta, self.best_of = beta, best_of

    def start(self, method, data) -> None:
        self.gaps: list[Tensor] = []
        self.worth: list[Tensor] = []
        self.known = data.columns.get("score") if hasattr(data, "judged") else None
        self.data = data

    def update(self, method, batch) -> None:
        scores = precise(method.answer_scores(batch.pairs, batch.answers))
        self.gaps.append(scores[:, 0] - scores[:, 1])
        if self.known is not None:
            rows = self.data.rows[self.split][self.positions(self.data)]
            self.worth.append(precise(self.known.view(-1, 2)[rows].to(scores.device)))

    def compute(self, method, data) -> Mapping[str, float]:
        gaps = self.rows_of_all(torch.cat(self.gaps) if self.gaps else torch.zeros(0, dtype=torch.float64))
        right = (1 + gaps.sign()) / 2
        figures = {
            "pair_accuracy": float(right.mean()),
            "pair_nll": float(-F.logsigmoid(gaps).mean()),
            "pair_ece": binned_ece(torch.sigmoid(gaps.abs()), right),
        }
        if self.worth:
            worth = self.rows_of_all(torch.cat(self.worth))
            picked = worth.gather(1, (gaps < 0).long()[:, None].to(worth.device))[:, 0]
            figures |= {
                "picked_reward": float(picked.mean()),
                "picked_best": float((picked >= worth.amax(1)).double().mean()),
            }
        world = getattr(getattr(data, "_records", None), "world", None)
        return figures if world is None else figures | self.listed(method, world)

    def listed(self, method: Any, world: World) -> dict[str, float]:
        """The figures over all answers of a world."""
        prompts, answers = world.prompts.to(method.device), world.answers.to(method.device)
        # A prompt at a time: the answers to all of them may be too many for one pass.
        scores = torch.cat([method.answer_scores(*all_sequences(prompt, answers)) for prompt in prompts.split(1)])
        scores, reward, recorded = precise(scores).cpu(), world.reward, world.behaviour
        even = torch.full_like(recorded, 1 / recorded.shape[1])
        figures = {
            "gold_correlation": correlation(scores, reward, even),
            "gold_pair_accuracy": agreement(scores, reward, even),
            "recorded_correlation": correlation(scores, reward, recorded),
            "recorded_pair_accuracy": agreement(scores, reward, recorded),
        }
        reference = recorded.log()
        if isinstance(method, ReferencedPolicy):
            reference = precise(method.all_reference_log_probs(prompts, answers)).cpu().log_softmax(1)
        figures["reference_reward"] = float((reference.exp() * reward).sum(1).mean())
        laws = {"tilted": tilted(reference, scores, self.beta), "best_of": best_of(reference, scores, self.best_of)}
        for name, law in laws.items():
            figures[f"{name}_reward"] = float((law.exp() * reward).sum(1).mean())
            figures[f"{name}_kl"] = float(divergence(law, reference).mean())
        return figures


def correlation(a: Tensor, b: Tensor, weight: Tensor) -> float:
    """Pearson's correlation of a and b (P, A) less their means of each row, by weights that add up to 1 in each row."""
    a, b = (value - (weight * value).sum(1, keepdim=True) for value in (a, b))
    return float((weight * a * b).sum() / ((weight * a * a).sum() * (weight * b * b).sum()).sqrt())


def agreement(a: Tensor, b: Tensor, weight: Tensor) -> float:
    """Share of pairs of a row that a (P, A) orders as b does, by products of weights; ties of a half, of b left out."""
    sign_a, sign_b = ((value[:, :, None] - value[:, None]).sign() for value in (a, b))
    pairs = weight[:, :, None] * weight[:, None] * (sign_b != 0)
    return float((pairs * (1 + sign_a * sign_b) / 2).sum() / pairs.sum())
