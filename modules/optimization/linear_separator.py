"""Logistic regression and perceptrons as one family of rules that separate two classes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from compendium.errors import UserError, did_you_mean
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.method import Method
from modules.networks.linear import Linear

RULES = ("logistic", "normalized_logistic", "perceptron", "normalized_perceptron")


def pushes(margins: Tensor, rule: str) -> Tensor:
    """Margins y_i g(x_i) (n,) -> how much each record pushes, p (n,) of a step theta += rate * mean of p_i y_i g'(x_i).

    `logistic`                 sigmoid(-margin), the gradient of mean log(1 + exp(-margin))
    `perceptron`               1 where the margin is at most 0, else 0; where all are 0, as at the start, 1/2
    `normalized_...`           the same over its mean, 0 where that is 0
    """
    if rule == "logistic":
        return torch.sigmoid(-margins)
    if rule == "normalized_logistic":  # as a softmax, because each sigmoid may be 0 in floating point
        return len(margins) * F.logsigmoid(-margins).softmax(0)
    wrong = (margins <= 0).to(margins.dtype)
    if rule == "perceptron":
        return 0.5 * wrong if not margins.any() else wrong
    return wrong / wrong.mean().clamp_min(0.5 / len(margins))


def separating_margin(z: Tensor) -> float:
    """Records y_i x_i (n, D) -> max over unit theta of min_i z_i . theta, 0 if no theta separates them.

    It is the distance of their convex hull from 0, by least distance programming: Lawson and Hanson 1974, chapter 23.
    """
    from scipy.optimize import nnls

    rows = z.double().cpu().numpy()
    scale = float(np.abs(rows).max())
    if scale == 0:
        return 0.0
    target = np.zeros(rows.shape[1] + 1)
    target[-1] = 1
    matrix = np.vstack([rows.T / scale, np.ones(len(rows))])
    weights, _ = nnls(matrix, target, maxiter=100 * len(rows))
    residual = matrix @ weights - target
    if residual[-1] > -1e-12:
        return 0.0
    return float(scale * -residual[-1] / np.linalg.norm(residual[:-1]))


class LinearSeparator(Method):
    """Two classes y = -1 and 1 apart by the sign of a network g of one output, linear unless told otherwise.

    The loss is always the logistic one, f = mean log(1 + exp(-y_i g(x_i))), and its gradient is the rule's:

        - mean of p_i y_i grad g(x_i),   p = `pushes`(y_i g(x_i))

    so that `optimizer=sgd` of momentum 0 and rate gamma on whole batches, from weights of 0, is

        logistic               gradient descent of logistic regression
        perceptron             the batch perceptron, whose first step is half: what theta_t / gamma of `logistic`
                               tends to as gamma grows (theorem 3.2); at most n R^2 / mu^2 steps (theorem 3.3)
        normalized_perceptron  its step over the share of records that are wrong; at most R^2 / mu^2 (theorem 5.3)
        normalized_logistic    the step gamma beta_t grad f, beta_t = 1 / mean sigmoid(-y_i a_i . theta);
                               at most R^2 / mu^2 + 2 ln(2 n - 1) / (gamma mu^2) steps (theorem 6.1)

    with R the largest norm of a record and mu the margin. At `datamodule.batch_size=1` `perceptron` is Rosenblatt's.

    Tyurin 2024, "From Logistic Regression to the Perceptron Algorithm", equations and theorems as numbered there. All
    were read in the paper; its table 1 on the data of theorem 5.1 comes out to the last step.

    Deviations: (1) a network other than a linear one is what section 8 only thinks about; (2) batches smaller than the
    training split, which the paper has not, count as separated after a pass without a mistake; (3) the margin's
    intercept, where the net has one, is a feature of 1.

    Args:
        spec: labelled data with two classes, the second one is y = 1.
        rule: `logistic`, `normalized_logistic`, `perceptron` or `normalized_perceptron`.
        stop: whether training ends once the training records are apart.
        parts: `net`, `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: an unknown rule, not two classes, or several processes with a normalized rule.
    """

    batch_type = Labelled
    kinds = ("image", "vector")
    targets = ("class",)
    otherwise = "for a real target: model=supervised/regressor"
    papers = ("tyurin2024logistic",)

    def __init__(
        self, spec: DataSpec | Mapping[str, Any], rule: str = "logistic", stop: bool = True, **parts: Any
    ) -> None:
        super().__init__(spec, **parts)
        if rule not in RULES:
            raise UserError(f"model.rule={rule}: there is no such rule.", did_you_mean(rule, RULES))
        self.rule, self.stop = rule, stop
        self.net = self.build(self.spec.shape, (1,))
        self.register_buffer("made", torch.zeros((), dtype=torch.long))
        self.register_buffer("streak", torch.zeros((), dtype=torch.long))
        self.register_buffer("apart", torch.full((), -1, dtype=torch.long))
        self.register_buffer("peak", torch.zeros(()))

    @classmethod
    def check(cls, spec: DataSpec) -> None:
        super().check(spec)
        if len(spec.classes) != 2:
            raise UserError(
                f"LinearSeparator tells two classes apart, and '{spec.name}' has {len(spec.classes)}.",
                "data=breast_cancer, or two of them: data=some_classes data.classes=[3,8]",
            )

    def margins(self, x: Tensor, y: Tensor) -> Tensor:
        """x (B, ...), y int64 (B,) -> y_i g(x_i) (B,), above 0 where g is right."""
        return (2 * y - 1) * self.net(x).squeeze(1)

    def loss(self, batch: Labelled) -> Tensor:
        margins = self.margins(batch.x, batch.y)
        value = F.softplus(-margins.detach()).mean()
        moved = -(pushes(margins.detach(), self.rule) * margins).mean()
        return value + moved - moved.detach()

    # When the training records are apart

    def on_fit_start(self) -> None:
        if self.trainer.world_size > 1 and self.rule.startswith("normalized"):
            raise UserError(f"model.rule={self.rule} needs all records in one process.", "trainer.devices=1")

    def training_step(self, batch: Labelled, batch_idx: int) -> Tensor:
        value = super().training_step(batch, batch_idx)
        self.count(batch, value.detach())
        return value

    @torch.no_grad()
    def count(self, batch: Labelled, value: Tensor) -> None:
        """Take note of a batch as it is before the step."""
        if self.apart < 0:
            right = self.margins(batch.x, batch.y) > 0
            self.streak.copy_(self.streak + len(right) if right.all() else right.long().flip(0).cumprod(0).sum())
            if self.streak >= self.spec.sizes["train"]:
                self.apart.copy_(self.made)
            elif self.made > 0:
                self.peak.copy_(torch.maximum(self.peak, value))
        if self.stop and self.apart >= 0:
            self.trainer.should_stop = True
        self.made += 1

    def separation(self, x: Tensor, y: Tensor) -> dict[str, float]:
        """Training records x (N, ...), y (N,) -> how training went, see `Separator`."""
        found = {
            "separated": float(self.apart >= 0),
            "steps": float(self.apart if self.apart >= 0 else self.made),
            "peak_loss": float(self.peak),
            "margin": math.nan,
            "bound_ratio": math.nan,
            "perceptron_distance": math.nan,
        }
        rate = float((self._optimizer or {}).get("lr", math.nan))
        if isinstance(self.net, Linear):
            z = self.features(x.double()) * (2 * y[:, None] - 1)
            found["margin"] = margin = separating_margin(z)
            if margin > 0:
                found["bound_ratio"] = found["steps"] / self.bound(len(z), float(z.norm(dim=1).max()), margin, rate)
            reached = torch.cat([part.detach().flatten() for part in self.net.parameters()]).double() / rate
            limit = self.perceptron(z, int(self.made))
            found["perceptron_distance"] = float((reached - limit).norm() / limit.norm())
        return found

    def features(self, x: Tensor) -> Tensor:
        """x (N, ...) -> what the linear map's weights multiply (N, D), with a 1 at the end if it has an intercept."""
        assert isinstance(self.net, Linear)
        flat = self.net.embed(x)
        return flat if self.net.last.bias is None else F.pad(flat, (0, 1), value=1.0)

    def bound(self, n: int, radius: float, margin: float, rate: float) -> float:
        """The most steps that a theorem allows; NaN for `logistic`, of which there is none at a finite rate."""
        factor = {"logistic": math.nan, "perceptron": n}.get(self.rule, 1)
        more = 2 * math.log(2 * n - 1) / rate if self.rule == "normalized_logistic" else 0.0
        return (factor * radius**2 + more) / margin**2

    def perceptron(self, z: Tensor, steps: int) -> Tensor:
        """Records y_i a_i (n, D) -> the weights (D,) of the rule's limit after some whole-batch steps of rate 1."""
        rule = "normalized_perceptron" if self.rule.startswith("normalized") else "perceptron"
        weights = z.new_zeros(z.shape[1])
        for _ in range(steps):
            push = pushes(z @ weights, rule)
            if not push.any():
                break
            weights = weights + push @ z / len(z)
        return weights

    def predict_log_proba(self, x: Tensor) -> Tensor:
        """x (B, ...) -> log probabilities of logistic regression (B, 2)."""
        score = self.net(x).float().squeeze(1)
        return torch.stack([F.logsigmoid(-score), F.logsigmoid(score)], 1)
