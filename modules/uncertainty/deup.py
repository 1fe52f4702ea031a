"""Epistemic uncertainty, predicted directly from errors on records that a predictor did not see."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.method import Method
from modules.networks.stacked import Stacked
from modules.uncertainty.ensemble import hashed


class DEUP(Method):
    """A predictor f, and a second one e of its squared error on records that it has not learned from:

        u(x) = max(0, e(phi(x)) - a)
        phi(x) = (x, ln density of the training records at x, ln variance of the folds' predictors at x)

    u estimates the excess risk (f(x) - E[y|x])^2, also where f is not able to fit E[y|x], which no variance tells.
    Errors come from K folds: predictor k learns from the records of all folds but the k-th, f from all, and e learns,
    at a record of fold k, the squared error of predictor k there. All K + 1 predictors are one batched network.

        loss = mean_i [ (f(x_i) - y_i)^2 + sum_k [i not in fold k] (f_k(x_i) - y_i)^2 ]
               + mean_i [ ln e_i + (f_k(i)(x_i) - y_i)^2 / e_i ],      the last with gradients for e alone

    The last line is least where e is the mean squared error given phi. y is in units of its standard deviation.

    Lahlou et al. 2022, "DEUP: Direct Epistemic Uncertainty Prediction", whose are the split of the risk, the features
    and the subtraction of an aleatoric part a (their abstract, and `uncertaintylearning/features` of their code).
    Deviations: 1. e learns while the predictors do, and not after them. 2. Its loss is that of a scale, where theirs is
    the square of the difference, or of logarithms. 3. The density is that of Gaussian kernels of Scott's width, where
    theirs is a kernel estimate or a flow; the variance is that of the folds' predictors, where theirs is a Gaussian
    process's. 4. a is one number. 5. Folds are a hash of the record.

    Args:
        spec: vectors with a real target.
        folds: K, at least 2; 5, the usual number.
        aleatoric: a, the variance of the response given the record, in squared units of the target.
        hidden: units of the two hidden layers of e; 32, as in their `bin/estimate_uncertainty.py`.
        parts: `net` (a config: each predictor is built from it), `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: the target is not real, a value out of range.
    """

    shift: Tensor
    scale: Tensor
    center: Tensor
    spread: Tensor
    anchors: Tensor

    batch_type = Labelled
    kinds = ("vector",)
    targets = ("real",)
    papers = ("deup2022direct",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        folds: int = 5,
        aleatoric: float = 0.0,
        hidden: int = 32,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if folds < 2 or aleatoric < 0 or hidden < 1:
            raise UserError(
                f"model.folds={folds} model.aleatoric={aleatoric} model.hidden={hidden}: at least 2, 0 and 1."
            )
        self.folds, self.aleatoric = folds, aleatoric
        dimensions = self.spec.dimensions
        self.net = Stacked([self.build(self.spec.shape, (1,)) for _ in range(folds + 1)])
        self.error = nn.Sequential(
            nn.Linear(dimensions + 2, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 1)
        )
        self.register_buffer("shift", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("center", torch.zeros(dimensions))
        self.register_buffer("spread", torch.ones(dimensions))
        self.register_buffer("anchors", torch.zeros(max(1, self.spec.sizes.get("train", 1)), dimensions))

    def on_fit_start(self) -> None:
        """Take the units of the target and the records of the training split; a continued run finds the same."""
        batch = self.trainer.datamodule.records("train")
        targets, x = batch.y.double(), batch.x.flatten(1)
        self.shift.fill_(targets.mean())
        self.scale.fill_(targets.std(correction=0).clamp_min(1e-12))
        self.center.copy_(x.mean(0))
        self.spread.copy_(x.std(0, correction=0).clamp_min(1e-12))
        self.anchors.copy_((x - self.center.cpu()) / self.spread.cpu())

    def log_density(self, x: Tensor) -> Tensor:
        """x (B, D) in units of the training records' spread -> ln of the kernel estimate of their density (B,)."""
        return log_density(x, self.anchors)

    def predictions(self, x: Tensor) -> Tensor:
        """x (B, ...) -> what the K folds' predictors and f say, in units of the targets' spread (K + 1, B)."""
        return self.net(x).float().squeeze(2)

    def log_error(self, x: Tensor, predictions: Tensor) -> Tensor:
        """x (B, ...) and `predictions` (K + 1, B) -> ln e (B,), with gradients for e alone."""
        units = (x.flatten(1) - self.center) / self.spread
        variance = predictions[:-1].detach().var(0, correction=1)
        features = [units, self.log_density(units)[:, None], log_variance(variance)[:, None]]
        return self.error(torch.cat(features, 1)).squeeze(1).clamp(-20, 20)

    def loss(self, batch: Labelled) -> dict[str, Tensor]:
        fold = hashed(batch.x) % self.folds
        predictions = self.predictions(batch.x)
        squares = (predictions - (batch.y - self.shift) / self.scale).square()
        places = torch.arange(self.folds + 1, device=batch.x.device)[:, None]
        learned = (squares * (places != fold)).mean(1).sum()
        unseen = squares.gather(0, fold[None]).squeeze(0).detach()
        log_error = self.log_error(batch.x, predictions)
        return {"squares": learned, "error": (log_error + unseen * (-log_error).exp()).mean()}

    def errors(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, ...) -> f(x) and e(phi(x)) (B,) each, in the target's own units."""
        predictions = self.predictions(x)
        return self.shift + self.scale * predictions[-1], self.scale**2 * self.log_error(x, predictions).exp()

    def predict_distribution(self, x: Tensor) -> Normal:
        """x (B, ...) -> Normal(f(x), e(phi(x))) with batch shape (B,), in the target's own units."""
        mean, error = self.errors(x)
        return Normal(mean, error.sqrt(), validate_args=False)

    def uncertainty(self, x: Tensor) -> Tensor:
        """x (B, ...) -> u (B,), in squared units of the target, at least 0."""
        return excess(self.errors(x)[1], self.aleatoric)


def log_density(x: Tensor, anchors: Tensor) -> Tensor:
    """x (B, D), records (n, D) -> ln of the density (B,) that Gaussian kernels of Scott's width at the records have."""
    count, dimensions = anchors.shape
    width = count ** (-1 / (dimensions + 4))
    squares = torch.cdist(x, anchors).square() / (2 * width**2)
    normalizer = math.log(count) + dimensions * (math.log(width) + 0.5 * math.log(2 * math.pi))
    return torch.logsumexp(-squares, 1) - normalizer


def log_variance(variance: Tensor) -> Tensor:
    """A variance in units of the response's spread (B,) -> its logarithm as a feature (B,)."""
    return (variance + 1e-8).log()


def excess(error: Tensor, aleatoric: float) -> Tensor:
    """Predicted squared errors e (B,) -> u = max(0, e - a) (B,)."""
    return (error - aleatoric).clamp_min(0)
