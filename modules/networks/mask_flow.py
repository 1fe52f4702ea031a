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

    With `record` false, neither record nor class is read: the posterior reads earlier masks alone, and is what masks
    come from in prediction, too; the prior drops each unit with probability p.

    Attributes:
        trajectory: what the layers of a network share in a pass.
    """

    def __init__(
        self, layer: nn.Module, before: Sequence[int], classes: int, hidden: int, p: float, record: bool = True
    ) -> None:
        super().__init__()
        units, earlier = weight_of(layer).shape[1], sum(before)
        self.layer, self.before, self.units, self.record = layer, tuple(before), units, record
        self.keep = math.log1p(-p) - math.log(p)
        self.prior = law(units + earlier, hidden, units, p) if record else None
        self.posterior = law(units + earlier + classes if record else 1 + earlier, hidden, units, p)
        self.trajectory = Trajectory()

    def laws(self, x: Tensor, earlier: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Inputs of the layer (B, units, ...), earlier masks (B, units) -> logits to draw from, and the prior's."""
        if self.prior is None:
            prior = x.new_full((len(x), self.units), self.keep)
            return self.posterior(torch.cat([x.new_ones(len(x), 1), *earlier], 1)), prior
        read = x.detach().flatten(2).mean(2) if x.dim() > 2 else x.detach()
        seen = torch.cat([read, *earlier], 1)
        prior, labels = self.prior(seen), self.trajectory.labels
        return prior if labels is None else self.posterior(torch.cat([seen, labels], 1)), prior

    def forward(self, x: Tensor) -> Tensor:
        path = self.trajectory
        earlier = [path.masks.get(place, x.new_zeros(len(x), units)) for place, units in enumerate(self.before)]
        logits, prior = self.laws(x, earlier)
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
        record: whether the laws read the record; without it the posterior is q(z) = prod_l q(z_l | z_<l), and the prior
            stays what it is at the start.
    """

    def __init__(self, classes: int, hidden: int, p: float, record: bool = True) -> None:
        super().__init__()
        self.classes, self.hidden, self.p, self.record = classes, hidden, p, record
        self.layers_with_masks: list[Masked] = []

    def noisy(self, layer: nn.Module, first: bool) -> nn.Module:
        before = [weight_of(masked.layer).shape[1] for masked in self.layers_with_masks]
        masked = Masked(layer, before, self.classes, self.hidden, self.p, self.record)
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
