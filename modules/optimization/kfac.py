"""K-FAC with factors that are inverted now and then: the baseline of MKOR."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from modules.optimization.factored import FactoredOptimizer
from modules.optimization.stacked import check_share


class KFAC(FactoredOptimizer):
    """Kronecker-factored curvature. For a layer, at every `every`-th step, with a row's inputs a and slopes g:

        R = gamma R + (1 - gamma) E[a a^T]              L = gamma L + (1 - gamma) E[g g^T]
        R^-1 <- (R + pi sqrt(damping) I)^-1             L^-1 <- (L + sqrt(damping) / pi I)^-1
        pi^2 = (tr R / in) / (tr L / out)

    and at each step the gradient G is replaced by |G| D / |D|, D = L^-1 G R^-1, for momentum or Adam. R and L are the
    first means at the first step.

    Martens and Grosse 2015, "Optimizing Neural Networks with Kronecker-factored Approximate Curvature", with stale
    factors as in KAISA (Pauloski et al. 2021), which MKOR takes as its baseline.

    Deviations: (1) g is the slope of the loss at the labels (the empirical Fisher information), as in KAISA; (2) a step
    has the length of the layer's gradient, as MKOR's, where KAISA bounds a KL divergence over all layers: rates of the
    two mean the same; (3) places of a convolution are rows of their own.

    Args:
        params: as in any torch optimizer.
        lr: learning rate, in the units of the backend.
        backend: `momentum` or `adam`.
        momentum: of `momentum`, as in torch's SGD.
        betas: of `adam`.
        eps: of `adam`.
        weight_decay: decoupled.
        every: steps from one inversion to the next; 50 as in MKOR's experiments.
        gamma: decay of the factors; 0.95 as in KAISA, like the damping.
        damping: 0.001, above 0.

    Raises:
        UserError: a value out of range, or a gradient that is not finite.
    """

    papers = ("mozaffari2023mkor",)
    order = 2

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.1,
        backend: str = "momentum",
        momentum: float = 0.9,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        every: int = 50,
        gamma: float = 0.95,
        damping: float = 1e-3,
    ) -> None:
        check_share(gamma=gamma)
        if not damping > 0:
            raise UserError(f"optimizer.damping={damping}: it is above 0.")
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
            damping=damping,
        )

    def begin(self, sides: tuple[int, int], like: Tensor) -> dict[str, Tensor]:
        state = {}
        for name, size in zip(("left", "right"), sides, strict=True):
            state[name] = torch.eye(size, dtype=like.dtype, device=like.device)
            state[f"factor_{name}"] = torch.zeros_like(state[name])
        return state

    def renew(self, slopes, inputs, state, step, group):
        weight = 1.0 if step == 1 else 1 - group["gamma"]
        left = state["factor_left"] = torch.lerp(state["factor_left"], slopes, weight)
        right = state["factor_right"] = torch.lerp(state["factor_right"], inputs, weight)
        tiny = torch.finfo(left.dtype).tiny
        means = [factor.diagonal(dim1=1, dim2=2).mean(1).clamp(min=tiny) for factor in (right, left)]
        pi, root = (means[0] / means[1]).sqrt(), group["damping"] ** 0.5
        state["right"], state["left"] = damped(right, root * pi), damped(left, root / pi)


def damped(factors: Tensor, ridge: Tensor) -> Tensor:
    """(A + ridge I)^-1 (B, d, d) of positive semidefinite A (B, d, d) and ridges (B,).

    Raises:
        UserError: a matrix that cannot be inverted.
    """
    shifted = factors.clone()
    shifted.diagonal(dim1=1, dim2=2).add_(ridge[:, None])
    roots, failed = torch.linalg.cholesky_ex(shifted)
    if failed.any():
        raise UserError(
            "K-FAC met a factor that has no inverse.", "Raise optimizer.damping, or lower optimizer.lr if it diverged."
        )
    return torch.cholesky_inverse(roots)
