"""LARS: momentum whose step on each layer has the length of the layer; the baseline of LAMB."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from modules.optimization.layerwise import LayerwiseOptimizer
from modules.optimization.stacked import check_share


class LARS(LayerwiseOptimizer):
    """Layerwise adaptive rate scaling. For a layer x with gradient g, at each step:

        m = momentum m + (1 - momentum) (g + weight_decay x)
        x <- x - lr phi(|x|) m / |m|            phi(z) = min(max(z, lower), upper)

    |.| is the Euclidean norm of a tensor; the step is -lr m where phi(|x|) or |m| is 0.

    You, Gitman and Ginsburg 2017, in the form of You et al. 2020, "Large Batch Optimization for Deep Learning: Training
    BERT in 76 minutes", Algorithm 1, which takes it as its baseline. The form of 2017 takes the lengths of g before the
    momentum, lr |x| / (|g| + weight_decay |x|), so that its steps are longer by up to 1 / (1 - momentum).

    Deviations: (1) tensors of less than two sides make steps of plain momentum and have no decay, as usual with LARS;
    `vectors` gives them a length.

    Args:
        params: as in any torch optimizer.
        lr: learning rate, the relative length of a step; 1e-2, ours: the paper tunes it.
        momentum: decay of m; 0.9, ours and the usual one.
        weight_decay: part of m; 0.01 as LAMB.
        lower: least phi.
        upper: largest phi; None: no bound.
        vectors: whether tensors of less than two sides have decay and a length, too.

    Raises:
        UserError: a value out of range.
    """

    papers = ("you2020large",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        momentum: float = 0.9,
        weight_decay: float = 0.01,
        lower: float = 0.0,
        upper: float | None = None,
        vectors: bool = False,
    ) -> None:
        check_share(momentum=momentum)
        super().__init__(
            params,
            lr=lr,
            weight_decay=weight_decay,
            lower=lower,
            upper=upper,
            vectors=vectors,
            momentum=momentum,
        )

    def start(self, gradients, group):
        return {"first": [torch.zeros_like(gradient) for gradient in gradients]}

    def update(self, weights, gradients, state, step, decay, group):
        share = 1 - group["momentum"]
        torch._foreach_lerp_(state["first"], gradients, share)
        if decay:
            torch._foreach_add_(state["first"], weights, alpha=share * decay)
        return state["first"], 1.0
