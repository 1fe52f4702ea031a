"""Logistic regression whose weights keep constraints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.optimization.constrained.newton import ConstrainedMethod
from modules.optimization.constrained.solvers import Solver


class ConstrainedRegression(ConstrainedMethod):
    """f(x) = mean log(1 + exp(-y_i a_i . x)), y = -1 and 1, subject to C x = e and |x|^2 = 1, by AdapNewton.

    C and e have entries from N(0, 1), `linear` rows, as functions of `seed`; rows of C and e are over the square root
    of the dimension. x and the multipliers start
    at ones. Batches are to hold all training records: an iteration is of one batch.

    Hong et al. 2023, the code's `ConstrainedLogisticRegression`, with 10 linear constraints and the sphere.

    Deviation: the scale of C and e, which the code reads from a file that is not there.

    Args:
        spec: vectors of two classes.
        solver: of the Newton system, see `ConstrainedMethod`.
        linear: linear constraints, from 0 to two below the dimension.
        seed: what C and e are a function of.
        tolerance: of the KKT residual.
        sharpen: whether the solver's accuracy is sharpened near a solution.
        parts: `net`, `optimizer`, `schedule`, which it has no use for.

    Raises:
        UserError: not two classes, or a number of constraints out of range.
    """

    batch_type = Labelled
    kinds = ("vector",)
    targets = ("class",)
    otherwise = "for a real target: model=supervised/regressor"

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        solver: Solver | Mapping[str, Any],
        linear: int = 10,
        seed: int = 0,
        tolerance: float = 1e-6,
        sharpen: bool = False,
        **parts: Any,
    ) -> None:
        d = math.prod(DataSpec.of(spec).shape)
        if not 0 <= linear <= d - 2:
            raise UserError(f"model.linear={linear}: from 0 to {d - 2}, two below the dimension.")
        super().__init__(spec, solver=solver, tolerance=tolerance, sharpen=sharpen, **parts)
        self.begin(torch.ones(d), linear + 1, 1.0)
        draw = torch.randn(linear, d + 1, generator=generator(seed, "constraints"), dtype=torch.float64) / d**0.5
        self.matrix, self.level = draw[:, :d], draw[:, d] / d**0.5

    @classmethod
    def check(cls, spec: DataSpec) -> None:
        super().check(spec)
        if len(spec.classes) != 2:
            raise UserError(
                f"ConstrainedRegression takes two classes, and '{spec.name}' has {len(spec.classes)}.",
                "data=breast_cancer",
            )

    def objective(self, x: Tensor, batch: Any) -> Tensor:
        return F.softplus(-(2 * batch.y - 1) * (batch.x.flatten(1).double() @ x)).mean()

    def constraints(self, x: Tensor) -> Tensor:
        sphere = (x.square().sum() - 1).reshape(1)
        return torch.cat([self.matrix.to(x) @ x - self.level.to(x), sphere])

    def predict_log_proba(self, x: Tensor) -> Tensor:
        """x (B, ...) -> log probabilities (B, 2)."""
        score = x.flatten(1).double() @ self.weight
        return torch.stack([F.logsigmoid(-score), F.logsigmoid(score)], 1).float()
