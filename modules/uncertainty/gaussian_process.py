"""Gaussian process regression: the variance that others' uncertainties are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.uncertainty.keeping import KeepingMethod
from modules.uncertainty.processes import Process, likeliest


class GaussianProcess(KeepingMethod):
    """y = f(x) + e, f a Gaussian process with the kernel s^2 exp(-|x - x'|^2 / (2 l^2)), e from N(0, n^2).

        E[f(x)] = k(x)^T (K + n^2 I)^-1 y,      Var f(x) = s^2 - k(x)^T (K + n^2 I)^-1 k(x)

    s, l and n maximise the marginal likelihood of all training records, see `modules.uncertainty.processes.likeliest`
    (Rasmussen and Williams 2006, chapter 2). y is in units of its standard deviation meanwhile.

    Args:
        spec: vectors with a real target, at most 5000 training records: it takes cubic time.
        restarts: of the optimizer of the marginal likelihood, from random places.
        parts: see `Method`.

    Raises:
        UserError: the target is not real, too many records, a negative number of restarts.
    """

    weights: Tensor
    factor: Tensor
    kernel: Tensor
    units: Tensor

    batch_type = Labelled
    kinds = ("vector",)
    targets = ("real",)

    def __init__(self, spec: DataSpec | Mapping[str, Any], restarts: int = 2, **parts: Any) -> None:
        super().__init__(spec, **parts)
        count = self.spec.sizes.get("train", 0)
        if restarts < 0 or count > 5000:
            raise UserError(
                f"model.restarts={restarts} with {count} records: it takes cubic time, of at most 5000.",
                "a number of restarts from 0 up; data.train=5000, or model=uncertainty/regression_ensemble",
            )
        self.restarts = restarts
        for name, shape in (
            ("weights", (count,)),
            ("factor", (count, count)),
        ):
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))
        self.factor += torch.eye(count, dtype=torch.float64)
        self.reserve(self.spec.dimensions + 1)
        self.register_buffer("kernel", torch.ones(3, dtype=torch.float64))  # s^2, l, n^2
        self.register_buffer("units", torch.tensor([0.0, 1.0], dtype=torch.float64))  # mean and spread of y

    def accumulate(self, batch: Labelled) -> None:
        self.keep(torch.cat([batch.x.flatten(1), batch.y[:, None]], 1))

    def solve(self) -> None:
        rows = self.rows_kept()
        found = likeliest(rows[:, :-1], rows[:, -1], self.restarts)
        count = len(rows)
        self.units.copy_(found.units)
        self.kernel.copy_(found.kernel)
        self.factor[:count, :count] = found.factor
        self.weights[:count] = found.weights

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, ...) -> mean and variance of f (B,) each, in the target's own units, float64."""
        known = Process(self.kept[:, :-1], self.weights, self.factor, self.kernel, self.units)
        return known.moments(x.flatten(1))

    def predict_distribution(self, x: Tensor) -> Normal:
        """x (B, ...) -> Normal of the response, with batch shape (B,)."""
        mean, variance = self.moments(x)
        return Normal(mean, (variance + self.units[1] ** 2 * self.kernel[2]).sqrt(), validate_args=False)

    def uncertainty(self, x: Tensor) -> Tensor:
        """x (B, ...) -> variance of f (B,), in squared units of the target."""
        return self.moments(x)[1]
