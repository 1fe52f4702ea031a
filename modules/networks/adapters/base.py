"""What every adapter has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from compendium.errors import UserError


class Adapter(ABC):
    """Says which weights of a trained network move."""

    @abstractmethod
    def attach(self, net: nn.Module) -> None:
        """Freeze the network but for weights that are trained, old or new ones. Changed in place.

        Raises:
            UserError: a network without what the adapter changes.
        """


class Whole(Adapter):
    """All weights move: plain fine-tuning."""

    def attach(self, net: nn.Module) -> None:
        net.requires_grad_(True)


class AdaptedNet:
    """What a method whose `net` was adapted says of it, see `modules.capabilities.Adapted`."""

    net: nn.Module

    def trained_weights(self) -> int:
        """How many numbers are trained."""
        return sum(weight.numel() for weight in self.net.parameters() if weight.requires_grad)

    def energy_change(self) -> float:
        """Largest relative change of a layer's hyperspherical energy; 0 where no layer is parametrized."""
        return energy_change(self.net)


def layers(net: nn.Module, names: Sequence[str] | None = None) -> Iterator[nn.Module]:
    """The linear and convolutional layers of a network; of those alone in whose name one of `names` occurs."""
    for name, part in net.named_modules():
        if isinstance(part, nn.Linear | nn.Conv2d) and (names is None or any(wanted in name for wanted in names)):
            yield part


def reparametrize(net: nn.Module, change: Callable[[Tensor], nn.Module], names: Sequence[str] | None = None) -> None:
    """Freeze a network, and let `change(weight)` make the weight of linear and convolutional layers from now on.

    Args:
        net: changed in place.
        change: weight (out, ...) -> a module that takes the frozen weight and gives the one that the layer uses.
        names: which layers, by parts of their names; None: all.

    Raises:
        UserError: no layer of such a name.
    """
    net.requires_grad_(False)
    chosen = list(layers(net, names))
    if not chosen:
        there = [name for name, part in net.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)]
        raise UserError(
            f"adapter.layers={list(names or ())}: the network has no such layer.", f"there are: {', '.join(there)}"
        )
    for layer in chosen:
        parametrize.register_parametrization(layer, "weight", change(layer.weight))  # type: ignore[arg-type]


@torch.no_grad()
def hyperspherical_energy(weight: Tensor) -> Tensor:
    """Neurons (out, ...) -> sum over pairs i != j of 1 / |w_i / |w_i| - w_j / |w_j|| (), in float64.

    Liu et al. 2018, "Learning towards Minimum Hyperspherical Energy". Neurons of one direction repel without bound, and
    one without any has no direction: both pairs are left out.
    """
    flat = weight.detach().flatten(1).double()
    unit = nn.functional.normalize(flat[flat.norm(dim=1) > 0], dim=1)
    # Not by cdist, whose rounding of near pairs is larger than what orthogonal changes are to be told from.
    between = (unit[:, None] - unit[None]).norm(dim=2)
    apart = between > 1e-9
    return between[apart].reciprocal().sum()


@torch.no_grad()
def energy_change(net: nn.Module) -> float:
    """How far the changes have moved the energy of the layers: max over layers of |energy / energy before - 1|."""
    changes = [0.0]
    for layer in layers(net):
        if not parametrize.is_parametrized(layer, "weight"):
            continue
        before = hyperspherical_energy(layer.parametrizations.weight.original)  # type: ignore[union-attr]
        if before > 0:
            changes.append(abs(float(hyperspherical_energy(layer.weight) / before) - 1))  # type: ignore[arg-type]
    return max(changes)
