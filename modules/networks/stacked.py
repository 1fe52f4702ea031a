"""Several networks of one shape as one batched network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from compendium.errors import UserError


class Stacked(nn.Module):
    """K networks of one architecture, each with weights of its own, evaluated in one call of `torch.func.vmap`.

    Each weight and buffer is kept as one tensor (K, ...) under the name that it has in a single network, so that an
    optimizer that works entry by entry takes the steps that it would take for each network by itself.

    Args:
        networks: K modules of the same class and shapes; the first one is taken apart.

    Raises:
        UserError: no network, or one and the same object twice.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        if not networks or len({id(net) for net in networks}) < len(networks):
            raise UserError(
                "an ensemble needs networks of its own for each member, and there is at least one.",
                "give net as a config, from which each member is built",
            )
        self.count = len(networks)
        weights, buffers = stack_module_state(list(networks))
        self.net = networks[0]
        for name, value in weights.items():
            path, _, leaf = name.rpartition(".")
            trained = self.net.get_parameter(name).requires_grad
            setattr(self.net.get_submodule(path), leaf, nn.Parameter(value.detach(), requires_grad=trained))
        for name, value in buffers.items():
            path, _, leaf = name.rpartition(".")
            setattr(self.net.get_submodule(path), leaf, value)

    def state(self) -> dict[str, Tensor]:
        """Weights and buffers by their names in a single network, (K, ...) each."""
        return {**dict(self.net.named_parameters()), **dict(self.net.named_buffers())}

    def forward(self, *inputs: Tensor, own: bool = False) -> Tensor:
        """Inputs (B, ...), the same for all -> outputs (K, B, ...); with `own` inputs are (K, B, ...), one of each."""

        def one(state: dict[str, Tensor], *given: Tensor) -> Tensor:
            return functional_call(self.net, state, given)

        dims = (0, *(0 if own else None for _ in inputs))
        return vmap(one, in_dims=dims, randomness="different")(self.state(), *inputs)


@torch.no_grad()
def member(stacked: Stacked, place: int) -> dict[str, Tensor]:
    """The state of one network, as a single network of the same shape loads it."""
    return {name: value[place].clone() for name, value in stacked.state().items()}
