"""Networks whose weights are drawn anew at each pass: dropout, dropout that learns its rate, batch ensembles.

A `Noise` is put into a network that is there already: it replaces its linear and convolutional layers by noisy ones.
Rows of what such a network takes are passes: of n * B rows, each has draws of its own. Where there are members, the
rows are M equal parts in the members' order.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compendium.config import instantiate
from compendium.errors import UserError


class Noise(ABC):
    """Says how the layers of a network become noisy.

    Args:
        layers: which linear and convolutional layers, by parts of their names; None: all.
        first: whether the first of them, which reads the records, is among them.
    """

    members = 1
    """Of an ensemble with shared weights: the rows of a pass are a multiple of it."""

    def __init__(self, layers: Sequence[str] | None = None, first: bool = False) -> None:
        self.layers, self.first = layers, first

    @abstractmethod
    def noisy(self, layer: nn.Module, first: bool) -> nn.Module:
        """A linear or convolutional layer, the first or another -> the layer with noise."""

    def attach(self, net: nn.Module) -> None:
        """Make the layers of a network noisy, in place.

        Raises:
            UserError: a network without such a layer.
        """
        found = [name for name, part in net.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)]
        chosen = [name for name in found[not self.first :] if self.chosen(name)]
        if not chosen:
            raise UserError(
                f"model.noise.layers={self.layers}: the network has no such layer"
                + ("." if self.first else " after the first."),
                f"there are: {', '.join(found) or 'none'}",
            )
        for name in chosen:
            path, _, leaf = name.rpartition(".")
            parent = net.get_submodule(path)
            setattr(parent, leaf, self.noisy(getattr(parent, leaf), name == found[0]))

    def chosen(self, name: str) -> bool:
        return self.layers is None or any(part in name for part in self.layers)


class NoNoise(Noise):
    """A network as it is: what noise is compared with."""

    def __init__(self) -> None:
        super().__init__()

    def noisy(self, layer: nn.Module, first: bool) -> nn.Module:
        return layer


class Dropout(Noise):
    """Units that a layer reads are dropped with a fixed probability, in training and in prediction.

    Gal and Ghahramani 2016, "Dropout as a Bayesian Approximation"; convolutional layers lose whole channels.

    Args:
        p: probability with which a unit is dropped, in [0, 1).
        parts: the arguments of `Noise`.

    Raises:
        UserError: a probability out of range.
    """

    def __init__(self, p: float = 0.1, **parts: Any) -> None:
        super().__init__(**parts)
        if not 0 <= p < 1:
            raise UserError(f"model.noise.p={p}: it lies in [0, 1).")
        self.p = p

    def noisy(self, layer: nn.Module, first: bool) -> nn.Module:
        return Dropped(layer, self.p)


class ConcreteDropout(Noise):
    """Dropout whose probability is learned, layer by layer (Gal, Hron and Kendall 2017).

    A unit is kept by a relaxed Bernoulli variable 1 - z, u uniform:

        z = sigmoid((ln p - ln(1 - p) + ln u - ln(1 - u)) / temperature)

    and a layer of weights W that reads D units (or channels), x (1 - z) / (1 - p), diverges from its prior by

        length_scale^2 |W|^2 / (2 (1 - p)) - D H(p),    H(p) = -p ln p - (1 - p) ln(1 - p)

    (their equations 3 and 4, with W / (1 - p) in the place of the mean weights, as units are scaled here). Methods add
    its sum over layers, divided by the number of training records, to the mean negative log-likelihood.

    Args:
        p: probability at the start; 0.1, as in their experiments.
        length_scale: of the prior; the smaller, the wider the prior of the weights.
        temperature: of the relaxation; 0.1, as in their code.
        parts: the arguments of `Noise`.

    Raises:
        UserError: a value out of range.
    """

    def __init__(self, p: float = 0.1, length_scale: float = 0.01, temperature: float = 0.1, **parts: Any) -> None:
        super().__init__(**parts)
        if not 0 < p < 1 or length_scale < 0 or temperature <= 0:
            raise UserError(
                f"model.noise.p={p} length_scale={length_scale} temperature={temperature}: p lies in (0, 1), the "
                "length scale is at least 0, the temperature above 0."
            )
        self.p, self.length_scale, self.temperature = p, length_scale, temperature

    def noisy(self, layer: nn.Module, first: bool) -> nn.Module:
        return ConcreteDropped(layer, self.p, self.length_scale, self.temperature)


class BatchEnsemble(Noise):
    """M members that share their weights but for factors of each unit (Wen, Tran and Ba 2020).

        member k:  y = (W (x r_k)) s_k + b_k

    Args:
        members: M; 4, as in their experiments.
        init: how r and s begin: `signs`, 1 or -1 at random, as in their experiments, or `normal`, from N(1, 0.5^2).
        dropout: config of a dropout that is put before each layer, too; None: no dropout.
        parts: the arguments of `Noise`. Factors of the first layer are part of the method: `first` is true by default.

    Raises:
        UserError: fewer than one member, no such start.
    """

    def __init__(
        self,
        members: int = 4,
        init: str = "signs",
        dropout: Mapping[str, Any] | None = None,
        first: bool = True,
        **parts: Any,
    ) -> None:
        super().__init__(first=first, **parts)
        if members < 1 or init not in ("signs", "normal"):
            raise UserError(
                f"model.noise.members={members} init={init}: at least one member, and init is signs or normal."
            )
        self.members, self.init = members, init
        self.dropout: Noise | None = instantiate(dropout, where="model.noise.dropout") if dropout else None

    def noisy(self, layer: nn.Module, first: bool) -> nn.Module:
        ensembled = Ensembled(layer, self.members, self.init)
        if self.dropout is None or (first and not self.dropout.first):
            return ensembled
        return self.dropout.noisy(ensembled, first)


class NoisyLayer(nn.Module):
    """A layer with noise; `penalty` is its divergence from a prior, in nats.

    Attributes:
        local: where the noise has a law of its own for each record, the divergences (rows,) of the latest pass, in
            nats.
    """

    local: Tensor | None = None

    def penalty(self) -> Tensor | float:
        return 0.0


class Dropped(NoisyLayer):
    """A layer that reads units, or channels, some of which are dropped: x m / (1 - p), m from Bernoulli(1 - p)."""

    def __init__(self, layer: nn.Module, p: float) -> None:
        super().__init__()
        self.layer, self.p = layer, p

    def forward(self, x: Tensor) -> Tensor:
        keep = torch.empty(mask_shape(x), device=x.device, dtype=x.dtype).bernoulli_(1 - self.p)
        return self.layer(x * (keep / (1 - self.p)))


class ConcreteDropped(NoisyLayer):
    """A layer with the relaxed mask of `ConcreteDropout`; `logit` (1,) is ln p - ln(1 - p)."""

    def __init__(self, layer: nn.Module, p: float, length_scale: float, temperature: float) -> None:
        super().__init__()
        self.layer, self.length_scale, self.temperature = layer, length_scale, temperature
        self.logit = nn.Parameter(torch.full((1,), math.log(p) - math.log1p(-p)))

    def forward(self, x: Tensor) -> Tensor:
        noise = torch.rand(mask_shape(x), device=x.device, dtype=x.dtype)
        dropped = torch.sigmoid((self.logit + torch.logit(noise, eps=1e-6)) / self.temperature)
        return self.layer(x * (1 - dropped) * (1 + self.logit.exp()))

    def penalty(self) -> Tensor:
        weight = weight_of(self.layer)
        p = torch.sigmoid(self.logit)
        information = -p * F.logsigmoid(self.logit) - (1 - p) * F.logsigmoid(-self.logit)
        prior = self.length_scale**2 * weight.square().sum() * (1 + self.logit.exp()) / 2
        return (prior - weight.shape[1] * information).sum()


class Ensembled(NoisyLayer):
    """A linear or convolutional layer of M members with shared weights, see `BatchEnsemble`.

    Attributes:
        inward: r (M, units that are read).
        outward: s (M, units that are written).
        bias: b (M, units that are written); None where the layer has none.
    """

    def __init__(self, layer: nn.Module, members: int, init: str) -> None:
        super().__init__()
        out, into = weight_of(layer).shape[:2]
        self.layer = layer
        self.members = members
        self.inward = nn.Parameter(beginning(members, into, init))
        self.outward = nn.Parameter(beginning(members, out, init))
        bias = layer.bias
        self.bias = None if bias is None else nn.Parameter(bias.detach().repeat(members, 1))
        layer.bias = None

    @property
    def weight(self) -> Tensor:
        return weight_of(self.layer)

    def forward(self, x: Tensor) -> Tensor:
        if len(x) % self.members:
            raise ValueError(f"{len(x)} rows do not divide among {self.members} members")
        y = self.by_member(self.layer(self.by_member(x, self.inward)), self.outward)
        return y if self.bias is None else self.by_member(y, self.bias, add=True)

    def by_member(self, x: Tensor, values: Tensor, add: bool = False) -> Tensor:
        """Rows (M * R, units, ...), values (M, units) -> their product or sum, each row with its member's values."""
        rows = x.unflatten(0, (self.members, -1))
        values = values.view(self.members, 1, values.shape[1], *(1 for _ in range(x.dim() - 2)))
        return (rows + values if add else rows * values).flatten(0, 1)


def beginning(members: int, units: int, init: str) -> Tensor:
    """Factors (members, units) at the start."""
    if init == "signs":
        return torch.empty(members, units).bernoulli_(0.5) * 2 - 1
    return 1 + 0.5 * torch.randn(members, units)


def weight_of(layer: nn.Module) -> Tensor:
    """The weight of a layer, or of the layer that is noisy (out, in, ...)."""
    return layer.weight  # type: ignore[return-value]


def mask_shape(x: Tensor) -> tuple[int, ...]:
    """Inputs of a layer (B, units) or (B, channels, ...) -> shape of what multiplies each unit or whole channel."""
    return (*x.shape[:2], *(1 for _ in range(x.dim() - 2)))


def penalty(net: nn.Module) -> Tensor:
    """A network with noise -> the sum of its layers' divergences from their priors (), in nats."""
    terms = [part.penalty() for part in net.modules() if isinstance(part, NoisyLayer)]
    tensors = [term for term in terms if isinstance(term, Tensor)]
    return torch.stack(tensors).sum() if tensors else torch.zeros(())


def local_penalty(net: nn.Module) -> Tensor | float:
    """The sum of the layers' divergences that each record has of its own, its mean over the latest pass, in nats.

    They are forgotten then.
    """
    total: Tensor | float = 0.0
    for part in net.modules():
        if isinstance(part, NoisyLayer) and part.local is not None:
            total = total + part.local.mean()
            part.local = None
    return total


def passes(net: nn.Module, x: Tensor, count: int) -> Tensor:
    """Inputs x (B, ...) -> outputs of `count` passes with draws of their own (count, B, ...), in one call."""
    rows = x.expand(count, *x.shape).flatten(0, 1)
    return net(rows).unflatten(0, (count, len(x)))
