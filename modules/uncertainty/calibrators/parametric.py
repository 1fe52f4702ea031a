"""Calibrators with a handful of numbers: temperature, vector and Dirichlet scaling."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from compendium.errors import UserError
from modules.uncertainty.calibrators.base import Calibrator, minimise


class Unchanged(Calibrator):
    """Leaves probabilities as they are: the baseline of every calibrator."""

    def fit(self, log_proba: Tensor, y: Tensor) -> None:
        """Nothing is learned."""

    def forward(self, log_proba: Tensor) -> Tensor:
        return log_proba


class Temperature(Calibrator):
    """softmax(log p / T) with the T > 0 of least negative log-likelihood (Guo et al. 2017, section 4.2)."""

    log_temperature: Tensor

    def __init__(self, classes: int, records: int) -> None:
        super().__init__(classes, records)
        self.register_buffer("log_temperature", torch.zeros((), dtype=torch.float64))

    def fit(self, log_proba: Tensor, y: Tensor) -> None:
        self.log_temperature.zero_()
        minimise(lambda: F.nll_loss(self(log_proba), y), [self.log_temperature])

    def forward(self, log_proba: Tensor) -> Tensor:
        return (log_proba / self.log_temperature.exp()).log_softmax(1)


class Matrix(Calibrator):
    """softmax(W log p + b): what vector and Dirichlet scaling share."""

    weight: Tensor
    bias: Tensor

    def __init__(self, classes: int, records: int) -> None:
        super().__init__(classes, records)
        self.register_buffer("weight", torch.eye(classes, dtype=torch.float64))
        self.register_buffer("bias", torch.zeros(classes, dtype=torch.float64))

    def forward(self, log_proba: Tensor) -> Tensor:
        # Classes that a predictor calls impossible: a finite number, or their product with 0 would be NaN.
        return F.linear(log_proba.clamp(min=-100.0), self.weight, self.bias).log_softmax(1)


class Vector(Matrix):
    """softmax(w * log p + b), a slope and an intercept per class (Guo et al. 2017, section 4.2).

        loss = negative log-likelihood + penalty * (mean of (w_k - 1)^2 + mean of b_k^2)

    Deviations: (1) the penalty: without one, records that are separated have no best w.

    Args:
        classes, records: see `Calibrator`.
        penalty: at least 0; 1e-3 by our choice.

    Raises:
        UserError: a negative penalty.
    """

    def __init__(self, classes: int, records: int, penalty: float = 1e-3) -> None:
        super().__init__(classes, records)
        if penalty < 0:
            raise UserError(f"model.calibrator.penalty={penalty}: at least 0.")
        self.penalty = penalty

    def fit(self, log_proba: Tensor, y: Tensor) -> None:
        slope, bias = torch.ones_like(self.bias), torch.zeros_like(self.bias)
        clamped = log_proba.clamp(min=-100.0)

        def loss() -> Tensor:
            fit = F.cross_entropy(slope * clamped + bias, y)
            return fit + self.penalty * ((slope - 1).square().mean() + bias.square().mean())

        minimise(loss, [slope, bias])
        self.weight.copy_(slope.diag())
        self.bias.copy_(bias)


class Dirichlet(Matrix):
    """softmax(W log p + b), which fits Dirichlet laws of p given the class (Kull et al. 2019, section 3).

        loss = negative log-likelihood + penalty * (mean over i != j of W_ij^2 + mean of b_k^2)

    the off-diagonal and intercept regularisation (ODIR) of its section 4.

    Args:
        classes, records: see `Calibrator`.
        penalty: at least 0, of both terms; 1e-2, in the middle of the paper's grid of powers of ten.

    Raises:
        UserError: a negative penalty.
    """

    def __init__(self, classes: int, records: int, penalty: float = 1e-2) -> None:
        super().__init__(classes, records)
        if penalty < 0:
            raise UserError(f"model.calibrator.penalty={penalty}: at least 0.")
        self.penalty = penalty

    def fit(self, log_proba: Tensor, y: Tensor) -> None:
        weight, bias = torch.eye(self.classes).to(self.weight), torch.zeros_like(self.bias)
        clamped = log_proba.clamp(min=-100.0)
        pairs = max(1, self.classes * (self.classes - 1))

        def loss() -> Tensor:
            beside = weight - weight.diag().diag()
            fit = F.cross_entropy(F.linear(clamped, weight, bias), y)
            return fit + self.penalty * (beside.square().sum() / pairs + bias.square().mean())

        minimise(loss, [weight, bias])
        self.weight.copy_(weight)
        self.bias.copy_(bias)
