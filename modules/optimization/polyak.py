"""Polyak's step size for descent with momentum: the rate is read off the loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from modules.optimization.stacked import BatchedOptimizer

FORMS = ("mag", "heavy_ball")


class Polyak(BatchedOptimizer):
    """Descent with momentum whose rate minimises a bound on the distance to the optimum after the step.

        mag          d_k = g_k + beta d_(k-1)
                     x_(k+1) = x_k - eta_k d_k
                     eta_k = (f(x_k) - lower) / (c |d_k|^2)

        heavy_ball   x_(k+1) = x_k - eta_k g_k + beta (x_k - x_(k-1))
                     eta_k = (f(x_k) - lower + beta <g_k, x_k - x_(k-1)>) / (c |g_k|^2)

    and at most `lr`. f and g are those of the batch, and `lower` is the least value of f (of a batch's f, in training
    on batches), 0 where a model can fit its data. With beta 0 both are Polyak's step, and on batches SPS_max of Loizou
    et al. 2021. Norms and products are over all weights together.

    Wang, Johansson and Zhang 2023, "Generalized Polyak Step Size for First Order Optimization with Momentum": ALR-MAG
    and ALR-HB; with c and the cap, ALR-SMAG and ALR-SHB.

    Deviations: (1) a rate of `heavy_ball` below 0, which the bound asks for where the loss has just fallen by much, is
    0; (2) c and the cap also stand in `heavy_ball`, as they do in `mag`; the paper's text was not at hand, ALR-SMAG is
    as in the step-back package.

    Args:
        params: as in any torch optimizer.
        lr: the largest rate; none where it is infinite, as in the deterministic methods.
        form: `mag` or `heavy_ball`.
        beta: momentum, in [0, 1); 0.9, the usual one.
        c: above 0; 1, as in the deterministic methods (SPS takes 0.2 to 1 on networks).
        lower: the least value of the loss.

    Raises:
        UserError: a value out of range, or a step without a closure that gives the loss.
    """

    asks = "loss"
    papers = ("wang2023generalized",)
    fixed = ("lr",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = math.inf,
        form: str = "mag",
        beta: float = 0.9,
        c: float = 1.0,
        lower: float = 0.0,
    ) -> None:
        if form not in FORMS:
            raise UserError(f"optimizer.form={form} is unknown.", f"there are: {', '.join(FORMS)}")
        if not lr > 0 or not c > 0:
            raise UserError(f"optimizer.lr={lr} optimizer.c={c}: both are above 0.")
        if not 0 <= beta < 1:
            raise UserError(f"optimizer.beta={beta}: it lies in [0, 1).")
        super().__init__(params, lr=lr, form=form, beta=beta, c=c, lower=lower)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step on all tensors that have a gradient.

        Args:
            closure: computes the gradients and gives the loss.

        Raises:
            UserError: no closure.
        """
        if closure is None:
            raise UserError("Polyak's step size is read off the loss.", "optimizer.step(closure)")
        with torch.enable_grad():
            loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters:
                self._move(parameters, torch.as_tensor(loss) - group["lower"], group)
        return loss

    def _move(self, parameters: list[Tensor], excess: Tensor, group: dict[str, Any]) -> None:
        gradients = [parameter.grad.to(precise(parameter)) for parameter in parameters]  # type: ignore[union-attr]
        before = [self.state[parameter].get("momentum") for parameter in parameters]
        carried = [torch.zeros_like(g) if m is None else m for g, m in zip(gradients, before, strict=True)]
        carried = torch._foreach_mul(carried, group["beta"])
        if group["form"] == "mag":
            along = torch._foreach_add(gradients, carried)
            steps = torch._foreach_mul(along, -rate(excess, along, group))
            kept = along
        else:
            products = torch._foreach_mul(gradients, carried)
            excess = (excess + torch.stack([product.sum() for product in products]).sum()).clamp(min=0)
            steps = torch._foreach_mul(gradients, -rate(excess, gradients, group))
            torch._foreach_add_(steps, carried)
            kept = steps
        for parameter, momentum in zip(parameters, kept, strict=True):
            self.state[parameter]["momentum"] = momentum
        torch._foreach_add_(parameters, [step.to(parameter) for step, parameter in zip(steps, parameters, strict=True)])


def rate(excess: Tensor, along: list[Tensor], group: dict[str, Any]) -> Tensor:
    """(f - lower) / (c |along|^2), at most lr; 0 where there is nothing to move along."""
    squared = torch.stack(torch._foreach_norm(along)).square().sum()
    eta = excess.to(squared) / (group["c"] * squared)
    return torch.where(squared > 0, eta, 0.0).clamp(max=group["lr"])


def precise(parameter: Tensor) -> torch.dtype:
    """The precision of the state: float32, or float64 for weights in float64."""
    return torch.promote_types(parameter.dtype, torch.float32)
