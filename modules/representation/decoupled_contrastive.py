"""Decoupled contrastive learning: InfoNCE without the positive in its denominator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from compendium.errors import UserError
from datamodules.spec import DataSpec
from modules.representation.simclr import SimCLR


class DecoupledContrastive(SimCLR):
    """DCL, and DCLW with its weighted positives.

    In the notation of `SimCLR`,

        DCL     loss = mean_i  -s_ip / tau + log U_i
        DCLW    loss = mean_i  -w_i s_ip / tau + log U_i,    w_i = 2 - exp(s_ip / sigma) / mean_j exp(s_jp / sigma)

    Every gradient of InfoNCE's i-th term is q_i = U_i / (exp(s_ip / tau) + U_i) times that of DCL's (Proposition 1).
    This negative-positive coupling shrinks as soon as either the positive is near or the negatives are far, the more
    so the fewer negatives there are; DCL is free of it. The weights w_i, of mean 1, stress positives that are far
    apart. DCL is not bounded below: it falls for as long as positives and negatives can be told further apart.

    Yeh et al. 2022, "Decoupled Contrastive Learning", Propositions 1 and 2: equation 6, and its weighted form.

    Deviations: (1) the mean over the 2N anchors instead of the sum, which makes the loss comparable with InfoNCE.
    The authors' code takes the softmax over the batch, of sum 1, in the place of the weights' exp / mean exp, so that
    there w_i is nearly 2; the equation is what stands here.

    Args:
        spec: images or vectors.
        temperature: tau, above 0. Default 0.07, the paper's for CIFAR and STL-10 (section 4.1).
        sigma: of the weights, above 0, the authors' code: 0.5; None: no weights, DCL.
        parts: the arguments of `SimCLR`.

    Raises:
        UserError: a sigma that is not positive.
    """

    papers = ("yeh2022decoupled",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        temperature: float = 0.07,
        sigma: float | None = None,
        **parts: Any,
    ) -> None:
        super().__init__(spec, temperature, **parts)
        if sigma is not None and sigma <= 0:
            raise UserError(f"model.sigma={sigma}: similarities are divided by it; it lies above 0, or is null.")
        self.sigma = sigma

    def agreement(self, a: Tensor, b: Tensor) -> Tensor:
        positive, log_negatives = self.contrast(a, b)
        if self.sigma is not None:
            share = (positive * self.temperature / self.sigma).softmax(0)  # exp / sum exp, 1 / 2N in the mean
            positive = (2 - len(share) * share) * positive
        return (log_negatives - positive).mean()
