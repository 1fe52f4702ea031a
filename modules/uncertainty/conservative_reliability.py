"""What may be claimed of a system that has not failed yet: the worst case over priors, or a convenient one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.method import SolvedMethod
from modules.uncertainty.conservative import worst_confidence_of_quantile, worst_reliability

PRIORS = ("conservative", "uniform", "fitted")
FEATURES = ("system", "population", "demands", "theta", "epsilon")


class ConservativeReliability(SolvedMethod):
    """The probability that a system passes its next t demands, after it has passed k, from partial prior knowledge.

    What is known of its probability X of failing on a demand, before operation, is P(X <= epsilon) = theta. With the

    - `conservative` prior, the claim is the least one over all priors that agree with it: see
      `modules.uncertainty.conservative.worst_reliability`. It is never above the share of systems that pass, whatever
      their law is, as long as what is known is true.
    - `uniform` prior, Beta(1, 1), (k + 1) / (k + t + 1).
    - `fitted` prior, Beta(1, b) with P(X <= epsilon) = theta: (k + b) / (k + b + t),
      b = ln(1 - theta) / ln(1 - epsilon).

    Training counts the demands that each system has passed; a system that has failed once can claim nothing: 0.

    Zhao et al. 2020, "A Safety Framework for Critical Systems Utilising Deep Neural Networks": posterior predictions by
    conservative Bayesian inference. Their knowledge is partial, their prediction the worst case; the two-point
    solutions here were derived anew, and tested against linear programs, for the paper's theorems were not at hand.

    Deviations:
        1. Knowledge of a quantile. Knowledge of the mean E[X] <= m alone leaves (1 - m)^t as the worst prediction,
           however many demands were passed; what it says of P(X <= p) is `conservative.worst_confidence`.
        2. Where theta and epsilon come from (verification of robustness, generalisation error) is the source's matter.

    Args:
        spec: records of periods of operation, see `datamodules.sources.systems`.
        prior: one of `PRIORS`.
        parts: see `Method`.

    Raises:
        UserError: an unknown prior, records that are no periods.
    """

    passed: Tensor
    failed: Tensor

    batch_type = Labelled
    kinds = ("vector",)
    targets = ("class",)
    otherwise = "periods of operation: data=systems"
    papers = ("zhao2020safety",)

    def __init__(self, spec: DataSpec | Mapping[str, Any], prior: str = "conservative", **parts: Any) -> None:
        super().__init__(spec, **parts)
        if prior not in PRIORS:
            raise UserError(f"model.prior={prior} is unknown.", f"there are: {', '.join(PRIORS)}")
        self.prior = prior
        size = max(1, self.spec.sizes.get("train", 0))  # a system has one training record at least
        self.register_buffer("passed", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("failed", torch.zeros(size, dtype=torch.float64))

    @classmethod
    def check(cls, spec: DataSpec) -> None:
        super().check(spec)
        if spec.features != FEATURES:
            raise UserError(
                f"{cls.__name__} takes periods of operation with the columns {', '.join(FEATURES)}, "
                f"and '{spec.name}' has others.",
                "data=systems, datamodule.scale=none",
            )

    def accumulate(self, batch: Labelled) -> None:
        system = batch.x[:, 0].long()
        for total, periods in ((self.passed, batch.y == 1), (self.failed, batch.y == 0)):
            seen = torch.zeros_like(total).index_add_(0, system, batch.x[:, 2].double() * periods)
            total += self.sum_of_all(seen)

    def predict_reliability(self, x: Tensor) -> Tensor:
        """Periods (B, 5) -> claimed probability that the system passes all demands of its period (B,), float64."""
        system, ahead, theta, epsilon = self.read(x)
        k = self.passed[system]
        if self.prior == "conservative":
            claim = worst_reliability(k, ahead, theta, epsilon)
        else:
            b = torch.log1p(-theta) / torch.log1p(-epsilon) if self.prior == "fitted" else torch.ones_like(k)
            claim = (k + b) / (k + b + ahead)
        return claim.masked_fill(self.failed[system] > 0, 0.0)

    def confidence(self, x: Tensor, bound: float) -> Tensor:
        """Periods (B, 5) -> the least probability that X <= bound, given what was passed (B,), float64."""
        system, _, theta, epsilon = self.read(x)
        worst = worst_confidence_of_quantile(self.passed[system], torch.tensor(bound), theta, epsilon)
        return worst.masked_fill(self.failed[system] > 0, 0.0)

    def population(self, x: Tensor) -> Tensor:
        """Periods (B, 5) -> which population each system comes from, int64 (B,)."""
        return x[:, 1].long()

    @staticmethod
    def read(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Periods (B, 5) -> system int64, demands, theta and epsilon float64, (B,) each."""
        # Knowledge came as float32, which may round theta up: a unit in the last place less is certain.
        theta = torch.nextafter(x[:, 3], x.new_tensor(-math.inf))
        epsilon = torch.nextafter(x[:, 4], x.new_tensor(math.inf))
        return x[:, 0].long(), x[:, 2].double(), theta.double(), epsilon.double()
