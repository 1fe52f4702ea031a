"""Dropout masks that are drawn layer by layer by networks that read the record, and what they were drawn from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modules.networks.stochastic import Noise, mask_shape, weight_of


@dataclass
class Trajectory:
    """The masks of one pass, in the order in which they were drawn.

    Attributes:
        labels: one-hot classes (B, C), which the posterior reads; None: masks come from the prior.
        temperature: of the law that masks are drawn from.
        masks: (B, units) of each layer that was met, by its place, 1 kept and 0 dropped.
        log_q: ln q(z | x, y) of the masks at temperature 1 (B,), with gradients for the posterior.
        log_p: ln p(z | x) (B,), with gradients for the prior.
    """

    labels: Tensor | None = None
    temperature: float = 1.0
    masks: dict[int, Tensor] = field(default_factory=dict)
    log_q: Tensor | float = 0.0
    log_p: Tensor | float = 0.0


class Masked(nn.Module):
    """A layer whose inputs are dropped by masks that two small networks give the law of, see `MaskFlow`.

    Both read what the layer reads (means over the positions of channels) and all earlier masks, without gradients for
    the network itself; the posterior reads the class, too. A mask of an earlier layer that the network has yet to come
    to is read as zeros.

    Attributes:
        trajectory: what the layers of a network share in a pass.
    """

    def __init__(self, layer: nn.Module, before: Sequence[int], classes: int, hidden: int, p: float) -> None:
        super().__init__()
        units, earlier = weight_of(layer).shape[1], sum(before)
        self.layer, self.before = layer, tuple(before)
        self.prior = law(units + earlier, hidden, units, p)
        self.posterior = law(units + earlier + classes, hidden, units, p)
        self.trajectory = Trajectory()

    def forward(self, x: Tensor) -> Tensor:
        path = self.trajectory
        read = x.detach().flatten(2).mean(2) if x.dim() > 2 else x.detach()
        earlier = [path.masks.get(place, read.new_zeros(len(x), units)) for place, units in enumerate(self.before)]
        seen = torch.cat([read, *earlier], 1)
        prior = self.prior(seen)
        logits = prior if path.labels is None else self.posterior(torch.cat([seen, path.labels], 1))
        mask = torch.bernoulli(torch.sigmoid(logits.detach() / path.temperature))
        path.masks[len(self.before)] = mask
        path.log_q = path.log_q + log_bernoulli(logits, mask)
        path.log_p = path.log_p + log_bernoulli(prior, mask)
        return self.layer(x * mask.view(mask_shape(x)))


class MaskFlow(Noise):
    """Masks z of the units that layers read, with a prior p(z|x) and a posterior q(z|x, y), layer by layer:

        p(z|x) = prod_l p(z_l | h_l, z_<l),      q(z|x, y) = prod_l q(z_l | h_l, z_<l, y)

    h_l is what layer l reads; each factor is a product of Bernoulli laws. Units that are kept are not scaled.

    Args:
        classes: number of classes y.
        hidden: units of the hidden layer of each law's network.
        p: probability with which a unit is dropped at the start.
    """

    def __init__(self, classes: int, hidden: int, p: float) -> None:
        super().__init__()
        self.classes, self.hidden, self.p = classes, hidden, p
        self.layers_with_masks: list[Masked] = []

    def noisy(self, layer: nn.Module, first: bool) -> nn.Module:
        before = [weight_of(masked.layer).shape[1] for masked in self.layers_with_masks]
        masked = Masked(layer, before, self.classes, self.hidden, self.p)
        self.layers_with_masks.append(masked)
        return masked

    def follow(self, trajectory: Trajectory) -> Trajectory:
        """Let the layers write the next pass into a trajectory."""
        for masked in self.layers_with_masks:
            masked.trajectory = trajectory
        return trajectory


def law(inward: int, hidden: int, units: int, p: float) -> nn.Sequential:
    """A network of logits of keeping each unit, which is 1 - p at the start, but for small weights."""
    last = nn.Linear(hidden, units)
    nn.init.normal_(last.weight, std=1e-2)
    nn.init.constant_(last.bias, math.log1p(-p) - math.log(p))
    return nn.Sequential(nn.Linear(inward, hidden), nn.SiLU(), last)


def log_bernoulli(logits: Tensor, mask: Tensor) -> Tensor:
    """Logits and masks (B, units) -> ln of the masks' probability (B,)."""
    return -F.binary_cross_entropy_with_logits(logits, mask, reduction="none").sum(1)
