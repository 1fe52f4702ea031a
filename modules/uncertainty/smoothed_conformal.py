"""Conformal sets of a smoothed classifier, with what is certain of them under an attack."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.spec import DataSpec
from modules.capabilities import Classifier
from modules.uncertainty.conformal import check_alpha, conformal_quantile, mondrian_quantiles, of_class
from modules.uncertainty.smoothing import mean_bounds, shifted
from modules.uncertainty.trained import Trained

CHUNK = 16384
"""Noisy records that go through the network at once."""


class SmoothedConformal(Trained):
    """Sets {y : 1 - P_y(x) <= Q}, P the smoothed probabilities E p(x + e), e from N(0, sigma^2), Q by split conformal.

    An attacker who moves x by up to `radius` (2-norm) moves P_y at most to Phi(Phi^-1(P_y) +- radius / sigma), see
    `modules.uncertainty.smoothing`. Hence, with L and U these lowest and highest values:

    - plain sets: a record with 1 - L_y(x) <= Q keeps its class under every attack. The share of such records is the
      certified coverage.
    - `robust` sets {y : 1 - U_y(x) <= Q} cover attacked records as often as plain ones cover clean ones, at least
      1 - alpha, and are larger.

    Expectations are means of `draws`; with an `error` above 0, L and U hold of the expectation itself but for that
    probability a record, all classes together, twice: at the clean and at the attacked record. Scores then are 1 - L
    at radius 0.

    Gendler et al. 2022, "Adversarially Robust Conformal Prediction" (RSCP): the method, its thresholds and its lower
    bound of coverage as in the code that Kang et al. 2024 compare with (`RSCP/utils.py`); the paper itself was not
    read. Deviations: 1. The score is 1 - p_y; theirs are aps and 1 - p_y. 2. The error of the means is accounted for
    if asked, where that code takes means for expectations.

    Args:
        spec: records held out of the classifier's training: `datamodule=held_out`.
        alpha: share of records that may be missed, in (0, 1); a tenth, as in the paper.
        sigma: standard deviation of the noise, in the units of what the network reads, above 0.
        radius: of attacks, in the same units, at least 0; half of sigma, as in the authors' runs.
        draws: of the noise.
        error: in [0, 1), see above.
        by_class: a quantile for each class.
        robust: see above.
        parts: `model` and `net`, see `Trained`.

    Raises:
        UserError: a number out of range; see `Trained`.
    """

    targets = ("class",)
    capability: type | None = Classifier

    quantiles: Tensor
    certain: Tensor

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        alpha: float = 0.1,
        sigma: float = 0.25,
        radius: float = 0.125,
        draws: int = 256,
        error: float = 0.0,
        by_class: bool = False,
        robust: bool = False,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        check_alpha(alpha)
        if sigma <= 0 or radius < 0 or draws < 1:
            raise UserError(f"model.sigma={sigma}, radius={radius}, draws={draws}: above 0, from 0, and from 1 on.")
        if not 0 <= error < 1:
            raise UserError(f"model.error={error}: it is a probability, in [0, 1).")
        self.alpha, self.sigma, self.radius, self.draws, self.error = alpha, sigma, radius, draws, error
        self.by_class, self.robust = by_class, robust
        classes = len(self.spec.classes)
        self.register_buffer("quantiles", torch.full((classes,), torch.inf, dtype=torch.float64))
        self.register_buffer("certain", torch.zeros(2, classes, dtype=torch.float64))

    # What a subclass overrides

    def outputs(self) -> int:
        return len(self.spec.classes)

    def answers(self, x: Tensor) -> Tensor:
        """Noisy records x (B, ...) -> what is smoothed of them, in [0, 1] (B, outputs)."""
        return self.asked.predict_log_proba(x).exp()

    def concluded(self, answers: Tensor) -> Tensor:
        """Smoothed answers (..., outputs) -> probabilities of the classes (..., C)."""
        return answers

    def concluded_bounds(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Intervals of smoothed answers (..., outputs) -> intervals of probabilities (..., C)."""
        return low, high

    # What it does with them

    def smoothed(self, x: Tensor, draws: int) -> Tensor:
        """x (B, ...) -> mean answers of noisy copies (B, outputs), float64; noise from torch's global state."""
        rounds = max(1, min(draws, CHUNK // max(1, len(x))))
        total = torch.zeros((), dtype=torch.float64, device=x.device)
        for first in range(0, draws, rounds):
            copies = x.expand(min(rounds, draws - first), *x.shape)
            noisy = (copies + self.sigma * torch.randn_like(copies)).flatten(0, 1)
            total = total + self.answers(noisy).double().unflatten(0, copies.shape[:2]).sum(0)
        return total / draws

    def note(self, x: Tensor) -> Tensor:
        return self.smoothed(x, self.draws)

    def bounds(self, answers: Tensor, radius: float) -> tuple[Tensor, Tensor]:
        """Mean answers (..., outputs) -> L and U of the classes within a radius (..., C)."""
        low, high = mean_bounds(answers, self.draws, self.error / self.outputs())
        distance = radius / self.sigma
        return self.concluded_bounds(shifted(low, -distance), shifted(high, distance))

    def solve(self) -> None:
        noted, y = self.noted()
        scores = of_class(1 - self.bounds(noted, 0.0)[0], y)
        if self.by_class:
            self.quantiles.copy_(mondrian_quantiles(scores, y, len(self.quantiles), self.alpha))
        else:
            self.quantiles.fill_(conformal_quantile(scores, self.alpha))
        kept = self.kept_class(noted, y)
        self.certain[0] = torch.bincount(y, kept.double(), minlength=len(self.quantiles))
        self.certain[1] = torch.bincount(y, minlength=len(self.quantiles))

    def kept_class(self, answers: Tensor, y: Tensor) -> Tensor:
        """Mean answers of clean records (B, outputs), y (B,) -> whether no attack takes y out of the set, bool (B,)."""
        low, _ = self.bounds(answers, 0.0 if self.robust else self.radius)
        return of_class(1 - low, y) <= self.quantiles[y]

    def certificate(self, error: float = 0.05) -> float:
        """A lower bound of the coverage under attack, from the calibration records alone.

        By the inequality of Dvoretzky, Kiefer and Wolfowitz with Massart's constant, a share of n records is at most
        sqrt(ln(1 / error) / (2n)) too high, at all thresholds at once, so that it does not matter that the quantile
        comes from the same records. With quantiles by class it holds for each of C classes with error / C, and their
        least one is taken.

        Args:
            error: probability that the bound is wrong, in (0, 1/2].
        """
        kept, n = self.certain if self.by_class else self.certain.sum(1, keepdim=True)
        if not bool((n > 0).all()):
            return 0.0
        slack = ((math.log(len(n)) - math.log(error)) / (2 * n)).sqrt()
        return max(0.0, float((kept / n - slack).min()))

    # What evaluations ask for

    def predict_set(self, x: Tensor) -> Tensor:
        """x (B, ...) -> which classes are in the set, bool (B, classes)."""
        _, high = self.bounds(self.note(x), self.radius if self.robust else 0.0)
        return 1 - high <= self.quantiles

    def predict_log_proba(self, x: Tensor) -> Tensor:
        """x (B, ...) -> log of the smoothed probabilities (B, classes), float64."""
        proba = self.concluded(self.note(x))
        return (proba / proba.sum(1, keepdim=True)).log()

    def certified(self, x: Tensor, y: Tensor) -> Tensor:
        """Clean records x (B, ...), classes y (B,) -> whether no attack takes y out of the set, bool (B,)."""
        return self.kept_class(self.note(x), y)

    def attack_loss(self, x: Tensor, y: Tensor, draws: int) -> Tensor:
        """x (B, ...), y (B,) -> -ln P_y of a few draws (B,): what an attacker climbs, differentiable."""
        proba = self.concluded(self.smoothed(x, draws))
        return -of_class(proba, y).clamp(min=1e-12).log()
