"""Split conformal sets of classes on top of a trained classifier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.spec import DataSpec
from modules.capabilities import Classifier
from modules.uncertainty.conformal import (
    SCORES,
    check_alpha,
    class_scores,
    conformal_quantile,
    mondrian_quantiles,
    of_class,
)
from modules.uncertainty.trained import Trained


class ConformalClassifier(Trained):
    """Sets {y : S(x, y) <= Q}, with Q from held-out records: they miss the class of at most a share alpha of records.

    Scores and quantile are those of `modules.uncertainty.conformal`. The guarantee is an average over records and
    held-out records alike; with `by_class`, one over the records of each class.

    Vovk et al. 2005, "Algorithmic Learning in a Random World"; Sadinle et al. 2019 (lac), Romano et al. 2020 (aps),
    Angelopoulos et al. 2021 (raps).

    Deviations: weight and free ranks of raps are given, where the authors tune them on records of their own.

    Args:
        spec: records held out of the classifier's training: `datamodule=held_out`.
        alpha: share of records that may be missed, in (0, 1); a tenth, as in those papers.
        score: `lac`, `aps` or `raps`.
        by_class: a quantile for each class.
        randomised: break the jumps of aps and raps by a draw of each record, for coverage of just 1 - alpha.
        weight, free: of raps, see `class_scores`; 0.1 and 1, for ten classes in the place of the authors' thousand.
        parts: `model` and `net`, see `Trained`.

    Raises:
        UserError: an unknown score, a number out of range; see `Trained`.
    """

    targets = ("class",)
    capability = Classifier

    quantiles: Tensor

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        alpha: float = 0.1,
        score: str = "lac",
        by_class: bool = False,
        randomised: bool = True,
        weight: float = 0.1,
        free: int = 1,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        check_alpha(alpha)
        if score not in SCORES:
            raise UserError(f"model.score={score} is unknown.", f"there are: {', '.join(SCORES)}")
        if weight < 0 or free < 0:
            raise UserError(f"model.weight={weight} and model.free={free}: at least 0.")
        self.alpha, self.score, self.by_class, self.randomised = alpha, score, by_class, randomised
        self.weight, self.free = weight, free
        self.register_buffer("quantiles", torch.full((len(self.spec.classes),), torch.inf, dtype=torch.float64))

    def outputs(self) -> int:
        """Log probabilities, and the record's draw."""
        return len(self.spec.classes) + 1

    def note(self, x: Tensor) -> Tensor:
        log_proba = self.predict(x)
        return torch.cat([log_proba, self.draw(log_proba)[:, None]], 1)

    def solve(self) -> None:
        noted, y = self.noted()
        scores = of_class(self.scores(noted[:, :-1], noted[:, -1]), y)
        if self.by_class:
            self.quantiles.copy_(mondrian_quantiles(scores, y, len(self.quantiles), self.alpha))
        else:
            self.quantiles.fill_(conformal_quantile(scores, self.alpha))

    def predict_set(self, x: Tensor) -> Tensor:
        """x (B, ...) -> which classes are in the set, bool (B, classes)."""
        log_proba = self.predict(x)
        return self.scores(log_proba, self.draw(log_proba)) <= self.quantiles

    def predict_log_proba(self, x: Tensor) -> Tensor:
        """x (B, ...) -> the classifier's log probabilities (B, classes), float64."""
        return self.predict(x)

    def scores(self, log_proba: Tensor, u: Tensor) -> Tensor:
        """Log probabilities (B, classes) and draws (B,) -> scores (B, classes)."""
        return class_scores(log_proba.exp(), self.score, u, self.weight, self.free)

    def draw(self, log_proba: Tensor) -> Tensor:
        """U(0, 1) of each record (B,), or ones."""
        return torch.rand_like(log_proba[:, 0]) if self.randomised else torch.ones_like(log_proba[:, 0])
