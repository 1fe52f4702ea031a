"""MeZO: descent along random directions, from two evaluations and in the memory of inference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from compendium.seeding import derive
from modules.optimization.asking import EvaluatingOptimizer, mean_over_processes
from modules.optimization.stacked import check_at_least_zero


class MeZO(EvaluatingOptimizer):
    """Zeroth-order SGD whose random direction z ~ N(0, I) is drawn again wherever it is needed. At each step t:

        theta <- theta + eps z                  l+ = loss(theta)
        theta <- theta - 2 eps z                l- = loss(theta)
        theta <- theta + eps z                  g = (l+ - l-) / (2 eps)
        theta <- (1 - lr weight_decay) theta - lr g z

    g z has the mean of the gradient up to O(eps^2) (SPSA, Spall 1992). Beside the weights there is one tensor's z, and
    the state is a count of steps. Over several processes g is of the mean loss: all take the same step.

    Malladi et al. 2023, "Fine-Tuning Language Models with Just Forward Passes", Algorithm 1, as in the code of ZO2
    (Wang et al. 2025), whose baseline it is.

    Deviations: (1) z of each tensor comes from a seed of its own, a function of (seed, t, place of the tensor), where
    theirs is one stream from a new random seed at each step; so no state of a generator has to be kept, and the part of
    any tensor can be drawn alone. (2) Decay is of all weights, theirs not of biases and norms; the default is none.

    Args:
        params: as in any torch optimizer.
        lr: learning rate; 1e-3 as in ZO2's code, MeZO has 1e-7 to 1e-5 for models of 13b weights.
        eps: how far to go along z; 1e-3 as in both.
        weight_decay: decoupled; 0 as in MeZO.
        seed: of the directions.

    Raises:
        UserError: a value out of range.
    """

    papers: tuple[str, ...] = ("wang2025zo2",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        eps: float = 1e-3,
        weight_decay: float = 0.0,
        seed: int = 0,
    ) -> None:
        check_at_least_zero(lr=lr, weight_decay=weight_decay)
        if not eps > 0:
            raise UserError(f"optimizer.eps={eps}: it is above 0.")
        super().__init__(params, {"lr": lr, "eps": eps, "weight_decay": weight_decay, "seed": seed})

    @property
    def eps(self) -> float:
        return self.param_groups[0]["eps"]

    @property
    def steps(self) -> int:
        """How many steps were taken."""
        return self.state[self.param_groups[0]["params"][0]].get("step", 0)

    def count(self) -> None:
        """One step more."""
        self.state[self.param_groups[0]["params"][0]]["step"] = self.steps + 1

    def placed(self) -> Iterator[tuple[int, Tensor, Mapping[str, Any]]]:
        """(place, tensor, group) of all tensors that are trained now."""
        place = 0
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.requires_grad:
                    yield place, parameter, group
                place += 1

    def direction(self, weight: Tensor, step: int, place: int) -> Tensor:
        """z of a tensor at a step."""
        draw = torch.Generator(weight.device)
        draw.manual_seed(derive(self.param_groups[0]["seed"], "direction", step, place))
        return torch.randn(weight.shape, generator=draw, dtype=weight.dtype, device=weight.device)

    def descend(self, evaluate: Callable[[], Tensor]) -> Tensor:
        step, eps = self.steps, self.eps
        # A loop, and no list of all z: that would be as large as the model.
        for place, parameter, _ in self.placed():
            parameter.add_(self.direction(parameter, step, place), alpha=eps)
        above = evaluate()
        for place, parameter, _ in self.placed():
            parameter.add_(self.direction(parameter, step, place), alpha=-2 * eps)
        slope = self.slope(above, evaluate())
        for place, parameter, group in self.placed():
            z = self.direction(parameter, step, place)
            parameter.add_(z, alpha=eps)
            move(parameter, z, **taken(group, slope))
        self.count()
        return above

    def slope(self, above: Tensor, below: Tensor) -> float:
        """g, from the losses of this process's records."""
        return float(mean_over_processes(above - below)) / (2 * self.eps)


def taken(group: Mapping[str, Any], slope: float) -> dict[str, float]:
    """The step of a group's tensors, as `move` takes it."""
    return {"keep": 1 - group["lr"] * group["weight_decay"], "along": -group["lr"] * slope}


def move(weight: Tensor, z: Tensor, keep: float, along: float) -> None:
    """weight <- keep weight + along z."""
    if keep != 1:
        weight.mul_(keep)
    weight.add_(z, alpha=along)
