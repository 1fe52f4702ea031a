"""AdaGrad with one step size for all weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import Optimizer

from compendium.errors import UserError


class AdaGradNorm(Optimizer):
    """AdaGrad with a single accumulator, the scalar variant:

        v_t = v_{t-1} + |g_t|^2        theta <- theta - lr g_t / (sqrt(v_t) + eps)        v_0 = initial

    with |.| the Euclidean norm over all tensors of a parameter group that have a gradient.

    Ward, Wu and Bottou 2019, "AdaGrad stepsizes: sharp convergence over nonconvex landscapes"; the optimizer of
    AdAdaGradNorm (Lau, Liu and Kolar 2024, "AdAdaGrad: Adaptive Batch Size Schemes for Adaptive Gradient Methods").

    Deviations: (1) one accumulator for a whole group, as in the algorithm; the authors' code has one for each row of a
    matrix.

    Args:
        params: as in any torch optimizer.
        lr: learning rate; 1 as in the authors' code, like the next two.
        initial: v_0.
        eps: what is added to the root.
        weight_decay: of the gradient, g + weight_decay theta, as in torch's Adagrad.

    Raises:
        UserError: a value out of range.
    """

    papers = ("lau2024adadagrad",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        initial: float = 0.01,
        eps: float = 1e-10,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "initial": initial, "eps": eps, "weight_decay": weight_decay}
        for name, value in defaults.items():
            if value < 0:
                raise UserError(f"optimizer.{name}={value}: it is at least 0.")
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step on all tensors that have a gradient; the closure's value, if there is a closure."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not moved:
                continue
            gradients = [parameter.grad for parameter in moved]
            if group["weight_decay"]:
                gradients = list(torch._foreach_add(gradients, moved, alpha=group["weight_decay"]))
            square = torch.stack(torch._foreach_norm(gradients)).square().sum()
            state = self.state[group["params"][0]]  # the group's first tensor keeps what all of them share
            state["sum"] = state.get("sum", group["initial"]) + square
            steps = torch._foreach_div(gradients, state["sum"].sqrt() + group["eps"])
            torch._foreach_add_(moved, steps, alpha=-group["lr"])
        return loss
