"""Lion-K: the gradient of a convex function of the momentum, with decoupled decay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError, did_you_mean
from modules.optimization.stacked import ListedOptimizer, check_at_least_zero, check_betas


class LionK(ListedOptimizer):
    """Lion with a convex function K in the place of the sum of absolute values. At each step, for the gradient g:

        c = beta1 m + (1 - beta1) g             theta <- (1 - lr weight_decay) theta - lr grad K(c)
        m = beta2 m + (1 - beta2) g

    With lambda = weight_decay it minimises f(theta) + K*(lambda theta) / lambda, where K* is the convex conjugate: a
    norm as K bounds its dual norm by 1 / lambda. K is a sum over tensors of

        kappa      K(x)                           grad K(x)                   K*(x)
        l1         sum |x_i|                      sign(x)                     0 within |x|_inf <= 1
        lp         (sum |x_i|^p)^(1/p)            sign(x) (|x| / K(x))^(p-1)  0 within the dual norm <= 1
        group      sum of |row|_2                 row / |row|_2               0 within |row|_2 <= 1
        threshold  sum max(|x_i| - e, 0)          sign(x) where |x| > e       e |x|_1 within |x|_inf <= 1
        sorted     sum of the k largest |x_i|     sign(x) for those k         0 within both, |x|_1 <= k
        huber      sum x_i^2 / 2e or |x_i| - e/2  clip(x, -e, e) / e          e |x|_2^2 / 2 within |x|_inf <= 1

    and l1 is Lion. A row is a slice along the first side; a vector is one row. Where K has no gradient, at 0, it is 0.

    Chen, Liu, Liang and Liu 2023, "Lion Secretly Solves Constrained Optimization: As Lyapunov Predicts", Eq. 2; Lion is
    of Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms".

    Deviations: (1) m has the sign of the gradient, as in Lion, where the paper's is that of descent; all K are even.
    (2) Norms are those of each tensor, where the paper's x is all weights. (3) k is a share of a tensor's entries.

    Args:
        params: as in any torch optimizer.
        lr: learning rate; 1e-4 as in Lion's own code.
        betas: beta1 of what is stepped along, beta2 of the momentum; 0.9 and 0.99 as there.
        weight_decay: lambda; the bound is its inverse. 0.1, ours: of order 1 in Lion's papers.
        kappa: `l1`, `lp`, `group`, `threshold`, `sorted` or `huber`.
        p: of `lp`, at least 1.
        e: of `threshold` and `huber`, in units of the gradient, above 0.
        share: k of `sorted` over the number of entries, in (0, 1]; at least one entry.

    Raises:
        UserError: a value out of range, or an unknown kappa.
    """

    papers = ("chen2023lion",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: Sequence[float] = (0.9, 0.99),
        weight_decay: float = 0.1,
        kappa: str = "l1",
        p: float = 2.0,
        e: float = 1e-3,
        share: float = 0.1,
    ) -> None:
        check_at_least_zero(lr=lr, weight_decay=weight_decay)
        if kappa not in GRADIENTS:
            hint = did_you_mean(kappa, list(GRADIENTS)) or f"there are: {', '.join(GRADIENTS)}"
            raise UserError(f"optimizer.kappa={kappa}: there is no such function.", hint)
        if not p >= 1:
            raise UserError(f"optimizer.p={p}: a norm's exponent is at least 1.")
        if not e > 0:
            raise UserError(f"optimizer.e={e}: it is above 0.")
        if not 0 < share <= 1:
            raise UserError(f"optimizer.share={share}: it lies in (0, 1].")
        super().__init__(
            params,
            lr=lr,
            betas=check_betas(betas),
            weight_decay=weight_decay,
            kappa=kappa,
            p=p,
            e=e,
            share=share,
        )

    def entrywise(self, group):
        return group["kappa"] in ENTRYWISE

    def start(self, gradients, group):
        return {"first": [torch.zeros_like(gradient) for gradient in gradients]}

    def direction(self, weights, gradients, state, step, group):
        beta1, beta2 = group["betas"]
        along = list(torch._foreach_lerp(state["first"], gradients, 1 - beta1))
        torch._foreach_lerp_(state["first"], gradients, 1 - beta2)
        return GRADIENTS[group["kappa"]](along, group)


# Gradients of K: tensors (any shape) -> tensors of the same shapes, which may be the same changed in place.


def l1(x: list[Tensor], group: Mapping[str, Any]) -> list[Tensor]:
    torch._foreach_sign_(x)
    return x


def lp(x: list[Tensor], group: Mapping[str, Any]) -> list[Tensor]:
    if group["p"] == 1:
        return l1(x, group)
    norms = torch._foreach_norm(x, group["p"])
    torch._foreach_clamp_min_(norms, [tiny(norm) for norm in norms])
    torch._foreach_div_(x, norms)
    if group["p"] == 2:
        return x
    sizes = torch._foreach_abs(x)
    torch._foreach_pow_(sizes, group["p"] - 1)
    torch._foreach_sign_(x)
    torch._foreach_mul_(x, sizes)
    return x


def rows(x: list[Tensor], group: Mapping[str, Any]) -> list[Tensor]:
    flat = [each.flatten(1) if each.dim() > 1 else each.view(1, -1) for each in x]
    lengths = [torch.linalg.vector_norm(each, dim=1, keepdim=True) for each in flat]
    torch._foreach_clamp_min_(lengths, [tiny(length) for length in lengths])
    torch._foreach_div_(flat, lengths)
    return [each.view(like.shape) for each, like in zip(flat, x, strict=True)]


def threshold(x: list[Tensor], group: Mapping[str, Any]) -> list[Tensor]:
    return [each.sign() * (each.abs() > group["e"]) for each in x]


def largest(x: list[Tensor], group: Mapping[str, Any]) -> list[Tensor]:
    found = []
    for each in x:
        count = max(1, round(group["share"] * each.numel()))
        flat = each.flatten()
        places = flat.abs().topk(count, sorted=False).indices
        found.append(torch.zeros_like(flat).index_copy(0, places, flat[places].sign()).view(each.shape))
    return found


def huber(x: list[Tensor], group: Mapping[str, Any]) -> list[Tensor]:
    torch._foreach_clamp_min_(x, -group["e"])
    torch._foreach_clamp_max_(x, group["e"])
    torch._foreach_div_(x, group["e"])
    return x


def tiny(x: Tensor) -> float:
    """The smallest normal number of a tensor's type."""
    return torch.finfo(x.dtype).tiny


GRADIENTS: Mapping[str, Callable[[list[Tensor], Mapping[str, Any]], list[Tensor]]] = {
    "l1": l1,
    "lp": lp,
    "group": rows,
    "threshold": threshold,
    "sorted": largest,
    "huber": huber,
}
"""kappa -> grad K, tensor by tensor."""
ENTRYWISE = ("l1", "threshold", "huber")
"""Those whose gradient at an entry depends on nothing else."""
