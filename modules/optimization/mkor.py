"""MKOR: Kronecker factors whose inverses are kept, and changed by matrices of rank one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from modules.optimization.factored import FactoredOptimizer
from modules.optimization.stacked import check_at_least_zero, check_share


class MKOR(FactoredOptimizer):
    """Momentum-enabled Kronecker factors by rank-1 updates. For a layer, at every `every`-th step, with the means over
    the batch a of its inputs and g of the slopes of its outputs:

        H <- zeta H + (1 - zeta) I  where max |H_ij| > threshold                for H = L^-1 and R^-1, I at the start
        L^-1 <- (L^-1 - (1 - gamma) u u^T / (gamma + (1 - gamma) g^T u)) / gamma,  u = L^-1 g;   R^-1 likewise with a

    and at each step momentum or Adam is given |G| D / |D|, D = L^-1 G R^-1, in the place of the gradient G. The second
    line is the inverse of gamma L + (1 - gamma) g g^T by Sherman and Morrison: O(d^2) for a layer of d units, and d
    numbers to exchange.

    With `stall` it is MKOR-H: once the loss, averaged with a decay of 1 - 1 / window, falls by less than `stall` of
    itself in `window` steps, layers are no longer preconditioned or watched.

    Mozaffari, Li, Zhang and Dehnavi 2023, "MKOR: Momentum-Enabled Kronecker-Factor-Based Optimizer Using Rank-1
    Updates", Algorithm 1 and section 3.2, read in the first author's thesis.

    Deviations: (1) what the paper prints as its Equations 5 and 6 (3.5 and 3.6 of the thesis),
    gamma H + (1 - gamma) u u^T / (gamma^2 (1 + gamma (1 - gamma) g^T u)), is no inverse of the factor it is derived
    from: it grows along g where the inverse shrinks. `printed` takes it instead; the authors' package has a third form,
    a rank-1 update of 0.95 H + 0.05 I. (2) The paper has no numbers for when MKOR-H falls back: rule and defaults are
    ours. (3) State is in float32, the authors' in float16. (4) The slope of a convolution is that of its bias, a sum
    over places, where the authors' code has their mean; inputs are means over places.

    Args:
        params: as in any torch optimizer.
        lr: learning rate, in the units of the backend.
        backend: `momentum` or `adam`; the authors' code has SGD by default.
        momentum: of `momentum`, as in torch's SGD; 0.9, the usual one.
        betas: of `adam`.
        eps: of `adam`.
        weight_decay: decoupled.
        every: steps from one update of the inverses to the next; 10 as in the paper.
        gamma: momentum of the factors; 0.95 as in the authors' code, like the next two.
        zeta: what is kept of an inverse that is too large.
        threshold: its largest entry.
        printed: whether to take the paper's formula as it is printed.
        stall: least relative fall of the loss in `window` steps; None: MKOR without falling back.
        window: steps.

    Raises:
        UserError: a value out of range.
    """

    papers = ("mozaffari2023mkor",)
    order = 1

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.1,
        backend: str = "momentum",
        momentum: float = 0.9,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        every: int = 10,
        gamma: float = 0.95,
        zeta: float = 0.9,
        threshold: float = 2.0,
        printed: bool = False,
        stall: float | None = None,
        window: int = 50,
    ) -> None:
        check_share(gamma=gamma)
        check_at_least_zero(threshold=threshold, **({} if stall is None else {"stall": stall}))
        if not gamma > 0:
            raise UserError(f"optimizer.gamma={gamma}: a matrix of rank one has no inverse; above 0.")
        if not 0 <= zeta <= 1:
            raise UserError(f"optimizer.zeta={zeta}: it lies in [0, 1].")
        if window < 2:
            raise UserError(f"optimizer.window={window}: at least 2 steps.")
        self.asks = "gradients" if stall is None else "loss"
        super().__init__(
            params,
            lr=lr,
            backend=backend,
            momentum=momentum,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            every=every,
            gamma=gamma,
            zeta=zeta,
            threshold=threshold,
            printed=printed,
            stall=stall,
            window=window,
            losses=0,
            smooth=0.0,
            mark=math.inf,
            stalled=False,
        )

    def begin(self, sides: tuple[int, int], like: Tensor) -> dict[str, Tensor]:
        return {
            name: torch.eye(size, dtype=like.dtype, device=like.device)
            for name, size in zip(("left", "right"), sides, strict=True)
        }

    def renew(self, slopes, inputs, state, step, group):
        for name, vectors in (("left", slopes), ("right", inputs)):
            inverse = state[name]
            large = inverse.abs().amax((1, 2), keepdim=True) > group["threshold"]
            mixed = group["zeta"] * inverse
            mixed.diagonal(dim1=1, dim2=2).add_(1 - group["zeta"])
            state[name] = updated(torch.where(large, mixed, inverse), vectors, group["gamma"], group["printed"])

    # MKOR-H

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step on all tensors that have a gradient; MKOR-H needs a closure that gives the loss."""
        loss = super().step(closure)
        for group in self.param_groups:
            if group["stall"] is not None and not group["stalled"]:
                if loss is None:
                    raise UserError("MKOR with optimizer.stall needs the loss.", "optimizer.step(closure)")
                self._judge(float(loss), group)
        return loss

    def _judge(self, loss: float, group: dict[str, Any]) -> None:
        """Take in the loss of a step, and at each window's end say whether second order still pays."""
        group["losses"] += 1
        decay = 1 - 1 / group["window"]
        group["smooth"] = decay * group["smooth"] + (1 - decay) * loss
        if group["losses"] % group["window"] == 0:
            mean = group["smooth"] / (1 - decay ** group["losses"])
            if math.isfinite(group["mark"]) and group["mark"] - mean < group["stall"] * abs(group["mark"]):
                group["stalled"] = True
            group["mark"] = mean

    def _on(self, group: Mapping[str, Any]) -> bool:
        return not group["stalled"]


def updated(inverse: Tensor, vectors: Tensor, gamma: float, printed: bool = False) -> Tensor:
    """Inverses H (B, d, d) of symmetric factors, vectors v (B, d) -> the inverses of gamma H^-1 + (1 - gamma) v v^T.

    Args:
        inverse: H.
        vectors: v.
        gamma: in (0, 1).
        printed: the formula of the paper instead, see `MKOR`.
    """
    u = (inverse @ vectors[:, :, None])[:, :, 0]
    inner = (u * vectors).sum(1)[:, None, None]
    outer = u[:, :, None] * u[:, None, :]
    if printed:
        return gamma * inverse + outer * ((1 - gamma) / (gamma**2 * (1 + gamma * (1 - gamma) * inner)))
    return (inverse - outer * ((1 - gamma) / (gamma + (1 - gamma) * inner))) / gamma
