"""Split conformal intervals on top of a trained regressor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.spec import DataSpec
from modules.capabilities import Regressor
from modules.uncertainty.conformal import check_alpha, conformal_quantile, quantile_scores, residual_scores
from modules.uncertainty.trained import Trained

SCORES = ("absolute", "normalised", "quantile")


class ConformalRegressor(Trained):
    """Intervals {y : S(x, y) <= Q}, with Q from held-out records: they miss at most a share alpha of records.

    With a trained predictive law of mean m(x), standard deviation s(x) and quantiles q_a(x), the score is

    - `absolute`: |y - m|, for intervals m +- Q (Lei et al. 2018);
    - `normalised`: |y - m| / s, for intervals m +- Q s (Papadopoulos et al. 2008; Lei et al. 2018);
    - `quantile`: max(q_(alpha / 2) - y, y - q_(1 - alpha / 2)), for [q_(alpha / 2) - Q, q_(1 - alpha / 2) + Q]
      (Romano et al. 2019: conformalized quantile regression). Where that is no interval, it is its midpoint.

    Deviations: quantiles are those of the trained law, where Romano et al. train quantile regressions.

    Args:
        spec: records held out of the regressor's training: `datamodule=held_out`.
        alpha: share of records that may be missed, in (0, 1); a tenth, as in those papers.
        score: `absolute`, `normalised` or `quantile`.
        parts: `model` and `net`, see `Trained`.

    Raises:
        UserError: an unknown score, a share out of range; see `Trained`.
    """

    targets = ("real",)
    capability = Regressor

    quantile: Tensor

    def __init__(
        self, spec: DataSpec | Mapping[str, Any], alpha: float = 0.1, score: str = "absolute", **parts: Any
    ) -> None:
        super().__init__(spec, **parts)
        check_alpha(alpha)
        if score not in SCORES:
            raise UserError(f"model.score={score} is unknown.", f"there are: {', '.join(SCORES)}")
        self.alpha, self.score = alpha, score
        self.register_buffer("quantile", torch.tensor(torch.inf, dtype=torch.float64))

    def outputs(self) -> int:
        """Two numbers: mean and scale, or two quantiles."""
        return 2

    def note(self, x: Tensor) -> Tensor:
        law = self.asked.predict_distribution(x)
        if self.score == "quantile":
            return torch.stack([law.icdf(law.mean.new_tensor(p)) for p in (self.alpha / 2, 1 - self.alpha / 2)], 1)
        return torch.stack([law.mean, law.stddev if self.score == "normalised" else torch.ones_like(law.mean)], 1)

    def solve(self) -> None:
        noted, y = self.noted()
        first, second = noted.T
        scores = (quantile_scores if self.score == "quantile" else residual_scores)(first, second, y)
        self.quantile.copy_(conformal_quantile(scores, self.alpha))

    def predict_interval(self, x: Tensor) -> Tensor:
        """x (B, ...) -> lower and upper end (B, 2), float64."""
        first, second = self.note(x).double().T
        if self.score == "quantile":
            ends = torch.stack([first - self.quantile, second + self.quantile], 1)
            return torch.where(ends[:, :1] <= ends[:, 1:], ends, ends.mean(1, keepdim=True))
        return first[:, None] + self.quantile * second[:, None] * torch.tensor([-1.0, 1.0], device=x.device)

    def predict_distribution(self, x: Tensor) -> Any:
        """x (B, ...) -> the regressor's law."""
        return self.asked.predict_distribution(x)
