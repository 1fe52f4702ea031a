"""LAMB: Adam whose step on each layer has the length of the layer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from modules.optimization.layerwise import LayerwiseOptimizer
from modules.optimization.stacked import check_at_least_zero, check_betas


class LAMB(LayerwiseOptimizer):
    """Layerwise adaptive moments. For a layer x with gradient g, at each step:

        m = beta1 m + (1 - beta1) g             v = beta2 v + (1 - beta2) g^2
        u = m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay x
        x <- x - lr phi(|x|) u / |u|            phi(z) = min(max(z, lower), upper)

    |.| is the Euclidean norm of a tensor; the step is -lr u where phi(|x|) or |u| is 0. With `layerwise` off this is
    AdamW.

    You et al. 2020, "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes", Algorithm 2; the case of
    norms of 0 and the defaults as in the authors' code (TensorFlow Addons).

    Deviations: (1) biases and the weights of norms, which the authors' trainings exclude from decay and adaptation by
    name, are excluded by having less than two sides; `vectors` includes them.

    Args:
        params: as in any torch optimizer.
        lr: learning rate, the relative length of a step; 1e-3 as in the authors' code.
        betas: of m and v; 0.9 and 0.999 as there.
        eps: what is added to the root of v; 1e-6 as there.
        weight_decay: part of u; 0.01, the paper's for BERT.
        lower: least phi; 0 and no upper bound make phi the norm itself, as in the authors' code.
        upper: largest phi; None: no bound.
        vectors: whether tensors of less than two sides have decay and a length, too.
        layerwise: whether a step has the length of its layer; False: that of u.

    Raises:
        UserError: a value out of range.
    """

    papers = ("you2020large",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        lower: float = 0.0,
        upper: float | None = None,
        vectors: bool = False,
        layerwise: bool = True,
    ) -> None:
        check_at_least_zero(eps=eps)
        super().__init__(
            params,
            lr=lr,
            weight_decay=weight_decay,
            lower=lower,
            upper=upper,
            vectors=vectors,
            betas=check_betas(betas),
            eps=eps,
            layerwise=layerwise,
        )

    def start(self, gradients, group):
        return {name: [torch.zeros_like(gradient) for gradient in gradients] for name in ("first", "second")}

    def update(self, weights, gradients, state, step, decay, group):
        beta1, beta2 = group["betas"]
        torch._foreach_lerp_(state["first"], gradients, 1 - beta1)
        torch._foreach_mul_(state["second"], beta2)
        torch._foreach_addcmul_(state["second"], gradients, gradients, 1 - beta2)
        late = math.sqrt(1 - beta2**step)
        scale = torch._foreach_sqrt(state["second"])
        torch._foreach_add_(scale, group["eps"] * late)
        # In place, as a new tensor takes three times as long to write to as one that is there.
        torch._foreach_reciprocal_(scale)
        torch._foreach_mul_(scale, state["first"])
        adam = late / (1 - beta1**step)  # the rest of Adam's part of u
        if decay:
            torch._foreach_add_(scale, weights, alpha=decay / adam)
        return list(scale), adam

    def _layerwise(self, group):
        return group["layerwise"]
