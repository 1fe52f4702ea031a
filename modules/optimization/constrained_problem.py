"""Written-out problems with constraints, whose solutions are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from compendium.config import instantiate
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.optimization.constrained.newton import ConstrainedMethod
from modules.optimization.constrained.problems import Problem
from modules.optimization.constrained.solvers import Solver


class ConstrainedProblem(ConstrainedMethod):
    """min f(x) subject to c(x) = 0 of a `Problem`, by AdapNewton. Records are not looked at: a batch is an iteration.

    Args:
        spec: any vectors.
        problem: a `Problem`, or its config.
        solver: of the Newton system, see `ConstrainedMethod`.
        tolerance: of the KKT residual.
        sharpen: whether the solver's accuracy is sharpened near a solution.
        parts: `net`, `optimizer`, `schedule`, which it has no use for.
    """

    batch_type = Unlabelled
    kinds = ("vector",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        problem: Problem | Mapping[str, Any],
        solver: Solver | Mapping[str, Any],
        tolerance: float = 1e-6,
        sharpen: bool = False,
        **parts: Any,
    ) -> None:
        made: Problem = problem if isinstance(problem, Problem) else instantiate(problem, where="model.problem")
        super().__init__(spec, solver=solver, tolerance=tolerance, sharpen=sharpen, **parts)
        self.begin(made.start, made.multipliers, made.first)
        self.problem = made

    def objective(self, x: Tensor, batch: Any) -> Tensor:
        return self.problem.objective(x)

    def constraints(self, x: Tensor) -> Tensor:
        return self.problem.constraints(x)

    def constrained_optimality(self, batch: Any) -> dict[str, float]:
        """See `Constrained`; with `excess`, f(x) less its least value."""
        excess = float(self.loss(batch).detach()) - self.problem.best
        return {**super().constrained_optimality(batch), "excess": excess}
