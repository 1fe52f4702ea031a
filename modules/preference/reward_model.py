"""Reward models: what answers are worth, learned from preferences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.batches import Preferences
from datamodules.spec import DataSpec
from modules.preference.headed import Headed


class RewardModel(Headed):
    """r(x, y) = <w, features of the last token of the answer y to the prompt x>, by Bradley and Terry's model.

        loss = -ln sigma(r(x, chosen) - r(x, rejected) - margin) + center (r(x, chosen) + r(x, rejected))^2

    Means over pairs; natural logarithms. Both answers go through the network in one pass. Preferences know rewards up
    to a constant for each prompt alone: `center` draws it to 0.

    Args:
        spec: text with preferences.
        center: weight of the squared sums, at least 0; 0 as in trl, where 0.01 is the proposed other value
            (Eisenstein et al. 2023, by trl's documentation).
        margin: by how much the chosen answer is to win, at least 0, in units of the reward.
        model, parts: see `Headed`.

    Raises:
        UserError: a value out of range, and see `Headed`.
    """

    batch_type = Preferences
    kinds = ("text",)
    targets = ("preference",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        center: float = 0.0,
        margin: float = 0.0,
        model: str | None = None,
        **parts: Any,
    ) -> None:
        if not center >= 0 or not margin >= 0:
            raise UserError(f"model.center={center} model.margin={margin}: both are at least 0.")
        super().__init__(spec, model, **parts)
        self.center, self.margin = center, margin
        self.head = self.begin_head(1)

    def loss(self, batch: Preferences) -> dict[str, Tensor]:
        scores = self.answer_scores(batch.pairs, batch.answers)
        terms = {"preference": -F.logsigmoid(scores[:, 0] - scores[:, 1] - self.margin).mean()}
        if self.center:
            terms["center"] = self.center * scores.sum(1).square().mean()
        return terms

    def answer_scores(self, ids: Tensor, answer: Tensor) -> Tensor:
        """ids int64 (..., T) and which are the answer's, bool (..., T) -> r (...), float32 or more."""
        features = self.net.embed(ids.flatten(0, -2))  # type: ignore[operator]
        return self.scores_of(features, answer.flatten(0, -2)).view(ids.shape[:-1])

    def scores_of(self, features: Tensor, answer: Tensor) -> Tensor:
        """Features (n, T, D) of texts and which tokens are the answers', bool (n, T) -> r (n,), float32 or more."""
        place = torch.arange(answer.shape[1], device=answer.device)
        return self.read(features, (answer * place).amax(1)).squeeze(1)
