"""Newton steps whose regularisation is searched until a step keeps what it promised."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from compendium.errors import UserError
from modules.optimization.asking import EvaluatingOptimizer, mean_over_processes
from modules.optimization.curvature import fisher, gauss_newton, hessian, value_and_gradient

CURVATURES = ("hessian", "gauss_newton", "fisher", "own")


class SearchedOptimizer(EvaluatingOptimizer):
    """Parent of descents with a matrix B >= 0 over all weights, and one number that is searched at each step.

        x_(k+1) = x_k + step(g, B, number)

    A step is tried; where `keeps` says no, the number is multiplied by `tightens` and another is tried; where it says
    yes, it is divided by that for the next step, down to `least`. A matrix that has no Cholesky root counts as a step
    that does not keep. After `tries` steps in vain the weights stay where they are, and the number as found last.

    The loss should be of all records (`datamodule.batch_size` as large as the data, and no dropout): the search
    compares values of the same function. B takes memory for n^2 numbers of n weights.

    Curvatures: `hessian`, exact; `gauss_newton`, without that of the network; `fisher`, the mean of g_b g_b^T over
    records; `own`, what the method's `approximate_hessian(batch)` gives.

    Args:
        params: of one group.
        number: at the first step, above 0.
        least: the number is never loosened beyond it.
        curvature: what B is.
        tries: steps at most until the search is given up; 40 as in the code of Semenov et al.
        largest: most weights, lest a matrix fills the memory.

    Raises:
        UserError: a value out of range, several groups, too many weights, a curvature that the method cannot give, or
            a loss or gradient that is not finite.
    """

    fixed = ("lr",)
    tightens: ClassVar[float]
    """What the number is multiplied by after a step that was not taken."""

    def __init__(
        self,
        params: Iterable[Any],
        number: float,
        least: float,
        curvature: str = "hessian",
        tries: int = 40,
        largest: int = 5000,
        lr: float = 1.0,
    ) -> None:
        if not number > 0 or not least >= 0 or tries < 1:
            raise UserError(
                f"optimizer starts at {number}, above 0, keeps {least} at least, 0 or more, and tries={tries} above 0."
            )
        if curvature not in CURVATURES:
            raise UserError(f"optimizer.curvature={curvature} is unknown.", f"there are: {', '.join(CURVATURES)}")
        if lr != 1.0:
            raise UserError(
                f"optimizer.lr={lr}: the length of these steps is searched.", "schedule=constant, without lr"
            )
        super().__init__(params, {"lr": lr, "curvature": curvature, "tries": tries, "number": number, "least": least})
        if len(self.param_groups) > 1:
            raise UserError(f"{type(self).__name__} moves all weights together.", "one group of parameters")
        size = sum(each.numel() for each in self.param_groups[0]["params"])
        if size > largest:
            raise UserError(
                f"{type(self).__name__} holds a matrix over all {size} weights, above optimizer.largest={largest}.",
                "a smaller net, or optimizer.largest=...",
            )
        self.method: nn.Module | None = None
        self.param_groups[0] |= {"tried": 0}

    @property
    def weights(self) -> list[Tensor]:
        """What is optimized: what is trained now."""
        return [parameter for parameter in self.param_groups[0]["params"] if parameter.requires_grad]

    def watch(self, method: nn.Module) -> None:
        """Note the method, of whose network the curvature is."""
        self.method = method

    @property
    def effort(self) -> dict[str, float]:
        """For the log: `tried`, the steps tried so far, each with one factorisation and one evaluation."""
        return {"tried": float(self.param_groups[0]["tried"])}

    # What a subclass says

    @abstractmethod
    def step_from(self, slope: Tensor, matrix: Tensor, number: float) -> tuple[Tensor, Tensor] | None:
        """g (n,), B (n, n) -> the step (n,) and what it promises, in whatever unit `keeps` takes; None: no step."""

    def keeps(self, fall: Tensor, slope: Tensor, step: Tensor, promised: Tensor) -> Tensor:
        """Whether a step is taken: here, if the loss falls by what was promised.

        Args:
            fall: f(x) - f(x + step).
            slope: gradient at x + step (n,).
            step: (n,).
            promised: of `step_from`.
        """
        return fall >= promised

    # The search

    def descend(self, evaluate: Callable[[], Tensor]) -> Tensor:
        group, weights = self.param_groups[0], self.weights
        value, slope = self.seen(evaluate)
        if not value.isfinite() or not slope.isfinite().all():
            raise UserError(
                f"{type(self).__name__} met a loss or a gradient that is not finite.", "another start or data"
            )
        if not slope.any():
            return value
        matrix = self.matrix(evaluate)
        start = [each.detach().clone() for each in weights]
        for _ in range(group["tries"]):
            group["tried"] += 1
            tried = self.step_from(slope, matrix, group["number"])
            if tried is not None:
                step, promised = tried
                self.place(start, step)
                new, new_slope = self.seen(evaluate)
                if new.isfinite() and self.keeps(value - new, new_slope, step, promised):
                    group["number"] = max(group["number"] / self.tightens, group["least"])
                    return value
            group["number"] *= self.tightens
        self.place(start, torch.zeros_like(slope))
        return value

    def seen(self, evaluate: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
        """Loss () and gradient (n,) of the records of all processes."""
        value, slope = value_and_gradient(evaluate, self.weights)
        return mean_over_processes(value), mean_over_processes(slope)

    def matrix(self, evaluate: Callable[[], Tensor]) -> Tensor:
        """B (n, n) at the present weights, of the records of all processes."""
        curvature = self.param_groups[0]["curvature"]
        if curvature == "hessian":
            return mean_over_processes(hessian(evaluate, self.weights))
        if curvature == "own":
            return mean_over_processes(self.own())
        net = getattr(self.method, "net", None)
        if not isinstance(net, nn.Module):
            raise UserError(
                f"optimizer.curvature={curvature} is of a method with a network.", "optimizer.curvature=hessian"
            )
        kind = gauss_newton if curvature == "gauss_newton" else fisher
        return mean_over_processes(kind(evaluate, self.weights, net))

    def own(self) -> Tensor:
        """What the method says of its curvature, a mean over the batches of the step.

        Raises:
            UserError: it says nothing.
        """
        said = getattr(self.method, "approximate_hessian", None)
        if said is None or self.evaluations is None:
            raise UserError(
                f"optimizer.curvature=own: {type(self.method).__name__} has no approximate_hessian.",
                "optimizer.curvature=hessian, gauss_newton or fisher",
            )
        return torch.stack([said(batch) for batch, _ in self.evaluations.batches]).mean(0)

    def place(self, start: list[Tensor], step: Tensor) -> None:
        """Weights become start + step (n,)."""
        parts = step.split([each.numel() for each in start])
        for weight, origin, part in zip(self.weights, start, parts, strict=True):
            weight.copy_(origin + part.view_as(origin))


class RidgeNewton(SearchedOptimizer):
    """Parent of Newton steps with a ridge, step = -(B + ridge I)^-1 g, which promise their ridge."""

    @abstractmethod
    def ridge(self, slope: Tensor, number: float) -> Tensor:
        """g (n,) -> the ridge ()."""

    def step_from(self, slope, matrix, number):
        ridge = self.ridge(slope, number)
        step = solved(matrix, ridge, slope)
        return None if step is None else (step, ridge)


def solved(matrix: Tensor, ridge: Tensor, slope: Tensor) -> Tensor | None:
    """-(B + ridge I)^-1 g (n,), or None where B + ridge I is not positive definite."""
    shifted = matrix.clone()
    shifted.diagonal().add_(ridge)
    root, failed = torch.linalg.cholesky_ex(shifted)
    return None if failed else -torch.cholesky_solve(slope[:, None], root)[:, 0]
