"""Policies that learn from preferences between two answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from compendium.config import instantiate
from datamodules.batches import OnlinePairs, Preferences, ScoredPairs
from datamodules.spec import DataSpec
from modules.preference.objectives.base import Objective, Pairs
from modules.preference.policy import answer_log_probs
from modules.preference.referenced import Referenced

AT_ONCE = 1024
"""Pairs of which the reference is asked at once, at most."""
TOKENS_AT_ONCE = 2**13
"""Tokens of them, at most: a network's memory goes by these."""


class PairwisePreference(Referenced):
    """A policy that goes on from a reference pi_ref, by an objective of ln pi and ln pi_ref of both answers.

    Both answers go through the network in one pass. The reference is the policy as it begins. Its ln pi_ref of all
    training pairs is computed once, when training starts, unless these are written while it trains.

    Args:
        spec: text with preferences.
        objective: config of a `modules.preference.objectives.base.Objective`, `objective=`.
        model: checkpoint of the reference; None: the network as it begins.
        parts: see `Policy`.

    Raises:
        UserError: see `Policy`.
    """

    batch_type = Preferences
    targets = ("preference",)

    noted: Tensor
    columns: ClassVar[int] = 2
    """How many logarithms `pair_log_probs` gives."""
    asks_anew = False

    def __init__(self, spec: DataSpec | Mapping[str, Any], objective: Mapping[str, Any], **parts: Any) -> None:
        super().__init__(spec, **parts)
        self.objective: Objective = instantiate(objective, where="model.objective")
        self.register_buffer("noted", torch.zeros(self.spec.sizes.get("train", 0), self.columns), persistent=False)

    def on_fit_start(self) -> None:
        """Ask the reference of all training pairs, always in the same portions: a continued run finds the same bits."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        self.asks_anew = getattr(data, "fresh", False)
        if self.asks_anew or not self.objective.needs_reference:
            return
        rows, longest = data.rows["train"], 2 * self.spec.shape[0]
        at_once = min(AT_ONCE, max(1, TOKENS_AT_ONCE // longest))
        self.noted.copy_(torch.cat([self._asked(data, part) for part in rows.split(at_once)]))

    @torch.no_grad()
    def _asked(self, data: Any, rows: Tensor) -> Tensor:
        batch = data.present(data.take(data.columns, rows, "validation"), "validation")
        return self.noted_log_probs(batch.pairs.to(self.device), batch.answers.to(self.device))

    def pair_log_probs(self, net: nn.Module, ids: Tensor, answers: Tensor) -> Tensor:
        """ids int64 (B, 2, T) and which are answers', bool (B, 2, T) -> ln of a network's probabilities (B, columns):
        those of the chosen and of the rejected answer come first.
        """
        return answer_log_probs(net, ids, answers)

    def noted_log_probs(self, ids: Tensor, answers: Tensor) -> Tensor:
        """The same of the reference, without gradients."""
        with self.before() as net:
            return self.pair_log_probs(net, ids, answers).detach()

    def pairs(self, batch: Preferences, noted: Tensor) -> Pairs:
        """A batch, and ln pi_ref of its answers (B, columns) -> what objectives look at."""
        return self.beside(batch, self.pair_log_probs(self.net, batch.pairs, batch.answers), noted)

    def beside(self, batch: Preferences, log_pi: Tensor, noted: Tensor) -> Pairs:
        """A batch, ln pi and ln pi_ref of its answers (B, columns) each -> what objectives look at."""
        scores = batch.scores.to(log_pi).unbind(1) if isinstance(batch, ScoredPairs) else (None, None)
        by_reference = batch.by_reference.unbind(1) if isinstance(batch, OnlinePairs) else (None, None)
        lengths = batch.answers.sum(2).to(log_pi).unbind(1)
        pairs = Pairs(*log_pi.unbind(1), *noted.unbind(1), *lengths, *scores, *by_reference)
        return pairs._replace(mismatched=self.mismatched(batch)) if self.objective.needs_mismatched else pairs

    @torch.no_grad()
    def mismatched(self, batch: Preferences) -> Tensor:
        """ln pi / pi_ref of the answers of each pair after the prompt of the pair before (2 B,)."""
        texts = after_other_prompts(batch.pairs, batch.answers)
        return (self.answer_log_probs(*texts) - self.reference_log_probs(*texts)).flatten()

    def loss(self, batch: Preferences) -> Tensor | dict[str, Tensor]:
        pairs = self.referenced_pairs(batch) if self.asks_anew else self.pairs(batch, self.noted[batch.row])
        return self.objective(pairs)

    def referenced_pairs(self, batch: Preferences) -> Pairs:
        """A batch -> what objectives look at; the reference is asked where they need it."""
        if not self.objective.needs_reference:
            return self.pairs(batch, torch.zeros(len(batch.pairs), self.columns, device=batch.pairs.device))
        return self.pairs(batch, self.noted_log_probs(batch.pairs, batch.answers))

    def preference_pairs(self, batch: Preferences) -> Pairs:
        """A batch of any split -> ln pi and ln pi_ref of both answers."""
        return self.pairs(batch, self.noted_log_probs(batch.pairs, batch.answers))


def after_other_prompts(ids: Tensor, answers: Tensor) -> tuple[Tensor, Tensor]:
    """Answers to prompts -> the same answers, each after the prompt of the row before.

    Args:
        ids: prompt and answer, filled up, int64 (B, 2, T).
        answers: which are the answer's, bool (B, 2, T).

    Returns:
        ids and which are the answer's, (B, 2, T'), filled up with 0.
    """
    start, count = answers.int().argmax(2), answers.sum(2)
    before = start.roll(1, 0)
    place = torch.arange(int((before + count).max()), device=ids.device)
    beyond = place - before[..., None]
    own = (beyond >= 0) & (beyond < count[..., None])
    last = ids.shape[2] - 1
    prompts = ids.roll(1, 0).gather(2, place.expand(beyond.shape).clamp_max(last))
    said = ids.gather(2, (start[..., None] + beyond).clamp(0, last))
    return torch.where(beyond < 0, prompts, torch.where(own, said, 0)), own
