"""Problems of two levels: what upper variables are good for, and what the lower level makes of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.spec import DataSpec

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Solution:
    """What is known of a problem at upper variables x.

    Attributes:
        y: the lower level's solution, of those that there are the one with the least upper loss (q,).
        value: the upper loss there, ().
        gradient: by x, of that value (p,).
    """

    y: Tensor
    value: Tensor
    gradient: Tensor


class Problem(ABC):
    """min over x of F(x, y*(x)) such that y*(x) minimises g(x, y): `upper` is F and `lower` is g.

    y are the weights of a network, by name; x is one tensor. Losses are means over the records of a batch, so that
    batches of any size estimate those of all records.

    Args:
        spec: what is known of the data.
        net: the network.
    """

    bounds: tuple[float, float] | None = None
    """Least and largest value of each x_j; None where there are none."""

    def __init__(self, spec: DataSpec, net: nn.Module) -> None:
        self.spec, self.net = spec, net

    @abstractmethod
    def start(self) -> Tensor:
        """Where x begins (p,)."""

    @abstractmethod
    def lower(self, x: Tensor, weights: Weights, batch: Any) -> Tensor:
        """g(x, y) on a batch, ()."""

    def upper(self, x: Tensor, weights: Weights, batch: Any) -> Tensor:
        """F(x, y) on a batch, (): the mean loss of the network, where it is no function of x itself."""
        return self.losses(weights, batch.x, batch).mean()

    def solution(self, x: Tensor, lower: Any, upper: Any) -> Solution | None:
        """The solution on all records of both levels, where there is a closed form of it."""
        return None

    def losses(self, weights: Weights, records: Tensor, batch: Any) -> Tensor:
        """Cross-entropy, or half the squared error, of each record (B,)."""
        out = self.outputs(weights, records.to(next(iter(weights.values())).dtype))
        if self.spec.classes:
            return F.cross_entropy(out, batch.y, reduction="none")
        return 0.5 * (out[:, 0] - batch.y.to(out.dtype)).square()

    def outputs(self, weights: Weights, records: Tensor) -> Tensor:
        """Of the network (B, outputs)."""
        return functional_call(self.net, dict(weights), (records,))


class Decays(Problem):
    """A decay for each feature of a linear model (`net=linear`), found on the validation split.

        g(x, y) = mean loss of the training records + 1/2 sum_j exp(x_j) |weights of feature j|^2
        F(x, y) = mean loss of the validation records

    For a real target the losses are squares, and with H, b the curvature and slope of g and Q, c those of F (y'Qy/2 -
    c'y), the lower level has the solutions y = H^+ b + N t, where N spans the kernel of H; of those, F takes the one of
    least loss, t = -(N'QN)^+ N'(Q H^+ b - c), and the gradient is -(d/dx d/dy g) H^+ (Q y - c): the formula for several
    solutions of Kwon et al. 2024.

    Training records may lack features (`seen`), whose weights then have no decay either: nothing but the validation
    split says what they are.

    Args:
        spec: what is known of the data.
        net: a network whose only weights are those of `last`, a linear layer.
        start: of each x_j.
        bounds: on x_j; the largest one keeps the lower level's curvature from growing without end.
        seen: how many features training records have, the first ones; None: all.

    Raises:
        UserError: another network, bounds that leave the start out, or a number of features that there is not.
    """

    def __init__(
        self,
        spec: DataSpec,
        net: nn.Module,
        start: float = -2.0,
        bounds: Sequence[float] = (-8.0, 0.0),
        seen: int | None = None,
    ) -> None:
        super().__init__(spec, net)
        low, high = bounds
        if not low <= start <= high:
            raise UserError(f"model.problem.start={start} model.problem.bounds={list(bounds)}: it lies between them.")
        self.bounds = (low, high)
        names = {name for name, _ in net.named_parameters()}
        if names != {"last.weight", "last.bias"}:
            raise UserError("problem=decays is for a linear model.", "net=linear")
        self.first = start
        self.seen = spec.dimensions if seen is None else seen
        if not 1 <= self.seen <= spec.dimensions:
            raise UserError(f"model.problem.seen={seen}: from 1 to the {spec.dimensions} features that there are.")

    def start(self) -> Tensor:
        return torch.full((self.seen,), float(self.first))

    def lower(self, x: Tensor, weights: Weights, batch: Any) -> Tensor:
        records = self.masked(batch.x.flatten(1))
        squares = weights["last.weight"][:, : self.seen].square().sum(0)
        return self.losses(weights, records, batch).mean() + 0.5 * (x.exp() * squares).sum()

    def outputs(self, weights: Weights, records: Tensor) -> Tensor:
        return F.linear(records.flatten(1), weights["last.weight"], weights["last.bias"])

    def masked(self, records: Tensor) -> Tensor:
        """Records (B, D) -> the same without the features that the lower level does not see."""
        return F.pad(records[:, : self.seen], (0, records.shape[1] - self.seen))

    @torch.no_grad()
    def solution(self, x: Tensor, lower: Any, upper: Any) -> Solution | None:
        if self.spec.classes:
            return None
        x = x.double()
        (curvature, slope), (q, c) = (
            moments(records, batch.y)
            for records, batch in ((self.masked(lower.x.flatten(1)), lower), (upper.x.flatten(1), upper))
        )
        decay = F.pad(x.exp(), (0, len(slope) - len(x)))
        values, vectors = torch.linalg.eigh(curvature + decay.diag())
        kept = values > 1e-10 * values[-1]
        inverse = (vectors[:, kept] / values[kept]) @ vectors[:, kept].T
        free = vectors[:, ~kept]
        y = inverse @ slope
        if free.shape[1]:
            y = y - free @ torch.linalg.pinv(free.T @ q @ free, hermitian=True) @ (free.T @ (q @ y - c))
        out = q @ y - c
        value = 0.5 * (y @ q @ y) - c @ y + 0.5 * upper.y.double().square().mean()
        return Solution(y, value, -(decay * y * (inverse @ out))[: len(x)])


def moments(records: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Records (N, D), y (N,) -> curvature (D + 1, D + 1) and slope (D + 1,) of least squares with an intercept."""
    records = F.pad(records.double(), (0, 1), value=1.0)
    return records.T @ records / len(records), records.T @ y.double() / len(records)


LAWS = ("softmax", "sigmoid")


class Reweighting(Problem):
    """A weight for each source of training records, found on the validation split (needs `datamodule=sourced`).

        g(x, y) = sum_s w_s mean loss of the records of source s + decay |y|^2 / 2,   w = softmax(x)
        g(x, y) = mean_i sigmoid(x_s(i)) loss_i + decay |y|^2 / 2

    The first is ScaleBiO's, the second is data hyper-cleaning where each record is a source. In the first a batch
    counts the records of a source that it has, as the authors' code does.

    Args:
        spec: classes, and the number of sources.
        net: the network.
        law: `softmax` or `sigmoid`.
        decay: of the lower level's weights, which makes its loss strongly convex where the network is linear.

    Raises:
        UserError: no sources, an unknown law, or a negative decay.
    """

    def __init__(self, spec: DataSpec, net: nn.Module, law: str = "sigmoid", decay: float = 1e-3) -> None:
        super().__init__(spec, net)
        if spec.sources is None:
            raise UserError("problem=reweighting needs to know where records come from.", "datamodule=sourced")
        if law not in LAWS:
            raise UserError(f"model.problem.law={law}: there is none of that name.", f"one of {', '.join(LAWS)}")
        if decay < 0:
            raise UserError(f"model.problem.decay={decay}: at least 0.")
        self.sources, self.law, self.decay = spec.sources, law, decay

    def start(self) -> Tensor:
        return torch.zeros(self.sources)

    def lower(self, x: Tensor, weights: Weights, batch: Any) -> Tensor:
        losses = self.losses(weights, batch.x, batch)
        if self.law == "softmax":
            counts = torch.bincount(batch.source, minlength=self.sources)
            value = (x.softmax(0) / counts.clamp_min(1))[batch.source] @ losses
        else:
            value = (x[batch.source].sigmoid() * losses).mean()
        return value + 0.5 * self.decay * torch.stack([weight.square().sum() for weight in weights.values()]).sum()

    def source_weights(self, x: Tensor) -> Tensor:
        """x (sources,) -> weights that add up to 1 (sources,)."""
        weights = x.softmax(0) if self.law == "softmax" else x.sigmoid()
        return weights / weights.sum()
