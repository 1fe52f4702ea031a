"""What LAMB and LARS share: each tensor's step has the length of the tensor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from modules.optimization.stacked import ListedOptimizer, check_at_least_zero


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
        group: Mapping[str, Any],
    ) -> list[Tensor]:
        """u of each tensor, new tensors; renews the state, whose tensors do not change in place."""
        raise NotImplementedError

    def decayed(self, tensors: list[Tensor], weights: list[Tensor], group: Mapping[str, Any]) -> list[Tensor]:
        """Tensors plus weight_decay times the weights, where those have decay; the same tensors where there is none."""
        places = adapted(weights, group)
        if not group["weight_decay"] or not places:
            return tensors
        some = [tensors[place] for place in places]
        sums = torch._foreach_add(some, [weights[place] for place in places], alpha=group["weight_decay"])
        new = dict(zip(places, sums, strict=True))
        return [new.get(place, tensor) for place, tensor in enumerate(tensors)]

    def direction(self, weights, gradients, state, step, group):
        updates = self.update(weights, gradients, state, step, group)
        places = adapted(weights, group)
        if places:
            some = [updates[place] for place in places]
            lengths = torch.stack(torch._foreach_norm([weights[place] for place in places]))
            lengths = lengths.clamp(group["lower"], group["upper"])
            norms = torch.stack(torch._foreach_norm(some))
            ratios = torch.where((lengths > 0) & (norms > 0), lengths / norms, 1.0)
            new = dict(zip(places, torch._foreach_mul(some, list(ratios.unbind())), strict=True))
            return [new.get(place, update) for place, update in enumerate(updates)]
        return updates


def adapted(weights: list[Tensor], group: Mapping[str, Any]) -> list[int]:
    """Places of the tensors that have decay and a length."""
    return [place for place, weight in enumerate(weights) if weight.dim() > 1 or group["vectors"]]
