"""What LAMB and LARS share: each tensor's step has the length of the tensor."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from modules.optimization.stacked import ListedOptimizer, Scaled, check_at_least_zero


class LayerwiseOptimizer(ListedOptimizer):
    """Parent of optimizers whose step on a tensor x is -lr phi(|x|) u / |u|, with |.| the Euclidean norm.

    phi(z) = min(max(z, lower), upper). Where phi(|x|) or |u| is 0 the step is -lr u. A subclass overrides `start` and
    `update`, which gives u.

    A tensor is a layer. Whole tensors are needed: with the shards of FSDP the norms would be those of the shards.

    Args:
        params: tensors, or groups of them with arguments of their own.
        lr: learning rate.
        weight_decay: part of u.
        lower: least phi.
        upper: largest phi; None: no bound.
        vectors: whether tensors of less than two sides (biases, norms) have weight decay and a length, too.
        more: the subclass's own.

    Raises:
        UserError: a value out of range.
    """

    decouples = False

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        weight_decay: float,
        lower: float,
        upper: float | None,
        vectors: bool,
        **more: Any,
    ) -> None:
        check_at_least_zero(lr=lr, weight_decay=weight_decay, lower=lower)
        if upper is not None and not upper >= lower:
            raise UserError(f"optimizer.upper={upper}: it is at least optimizer.lower={lower}.")
        super().__init__(params, lr=lr, weight_decay=weight_decay, lower=lower, upper=upper, vectors=vectors, **more)

    def update(
        self,
        weights: list[Tensor],
        gradients: list[Tensor],
        state: dict[str, list[Tensor]],
        step: int,
        decay: float,
        group: Mapping[str, Any],
    ) -> tuple[list[Tensor], float]:
        """u of each tensor over a number above 0, and the number; renews the state.

        The tensors may be the state's. A step as long as its layer does not depend on the number, so that nothing need
        be multiplied with it.
        """
        raise NotImplementedError

    def direction(self, weights, gradients, state, step, group):
        whole = weights[0].dim() > 1 or group["vectors"]
        updates, number = self.update(weights, gradients, state, step, group["weight_decay"] if whole else 0.0, group)
        ratios: Any = number
        if whole and self._layerwise(group):
            lengths = torch.stack(torch._foreach_norm(weights)).clamp(group["lower"], group["upper"])
            norms = torch.stack(torch._foreach_norm(updates))
            ratios = list(torch.where((lengths > 0) & (norms > 0), lengths / norms, number).unbind())
        return Scaled(updates, ratios)

    def _layerwise(self, group: Mapping[str, Any]) -> bool:
        """Whether a step has the length of its layer."""
        return True

    def _likeness(self, parameter: Tensor) -> Hashable:
        return super()._likeness(parameter), parameter.dim() > 1
