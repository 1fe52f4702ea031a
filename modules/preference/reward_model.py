"""Reward models: what answers are worth, learned from preferences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.batches import Preferences
from datamodules.spec import DataSpec
from modules.method import Method
from modules.preference.policy import begin_from


class RewardModel(Method):
    """r(x, y) = <w, features of the last token of the answer y to the prompt x>, by Bradley and Terry's model.

        loss = -ln sigma(r(x, chosen) - r(x, rejected) - margin) + center (r(x, chosen) + r(x, rejected))^2

    Means over pairs; natural logarithms. Both answers go through the network in one pass. Preferences know rewards up
    to a constant for each prompt alone: `center` draws it to 0.

    The head has no bias and begins at N(0, 1 / (features + 1)) (Stiennon et al. 2020, from memory).

    Args:
        spec: text with preferences.
        center: weight of the squared sums, at least 0; 0 as in trl, where 0.01 is the proposed other value
            (Eisenstein et al. 2023, by trl's documentation).
        margin: by how much the chosen answer is to win, at least 0, in units of the reward.
        model: checkpoint of a `Policy` whose network it begins with; None: the network as it begins.
        parts: `net`, `optimizer`, `schedule`, see `Method`. The network has `embed(ids (B, T)) -> (B, T, features)`.

    Raises:
        UserError: a value out of range, a network without features, or a checkpoint of no policy or another network.
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
        super().__init__(spec, **parts)
        if not center >= 0 or not margin >= 0:
            raise UserError(f"model.center={center} model.margin={margin}: both are at least 0.")
        self.center, self.margin = center, margin
        self.net = self.build(self.spec.shape, (self.spec.vocabulary,))
        if not hasattr(self.net, "embed") or not hasattr(self.net, "features"):
            raise UserError(
                f"{type(self.net).__name__} has no features of tokens that a reward could be read from.",
                "net=transformer",
            )
        if model is not None:
            begin_from(model, self.net)
            self.hparams["model"] = None  # its weights lie in this checkpoint, which opens without the other one
        features = int(self.net.features)  # type: ignore[arg-type]
        self.head = nn.Linear(features, 1, bias=False)
        nn.init.normal_(self.head.weight, std=(features + 1) ** -0.5)

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
        last = (answer * place).amax(1)
        scores = self.head(features[torch.arange(len(last), device=answer.device), last]).squeeze(1)
        return scores.to(torch.promote_types(scores.dtype, torch.float32))
