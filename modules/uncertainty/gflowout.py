"""Dropout whose masks are drawn from their posterior, which a generative flow network learns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.networks.mask_flow import MaskFlow, Trajectory
from modules.uncertainty.members import MembersClassifier


class GFlowOut(MembersClassifier):
    """Masks z of a network's units as latent variables, p(y|x) = E_{p(z|x)} p(y|x, z), by trajectory balance.

        z from q(z|x, y) at a temperature
        loss = mean_i  -ln p(y|x, z)  +  (ln Z(x, y) + ln q(z|x, y) - ln p(y|x, z) - ln p(z|x))^2  -  ln p(z|x)

    In the first term only the network itself is trained, in the second, the trajectory balance, only q and Z, so that q
    becomes the posterior of the masks, and in the last one only p(z|x), which becomes what is left of the posterior
    when the class is not known; predictions draw from it. The laws of masks are those of `modules.networks.mask_flow`.

    With `record` false the masks do not depend on the record: q(z) is to be the posterior given all N records, p(z)
    stays as it is, predictions draw from q(z), and

        loss = mean_i  -ln p(y|x, z)  +  (ln Z + ln q(z) - N ln p(y|x, z) - ln p(z))^2

    Liu et al. 2023, "GFlowOut: Dropout with Generative Flow Networks", both variants. The terms, what each trains, the
    temperature, and that masks do not scale are those of code that is adapted from the first author's, as it says
    (anirudhprabhakaran3/gflowout_on_eye_images); the paper was not at hand.
    Deviations: 1. One optimizer takes the steps of all, Z at 10 times the rate (there: 100 times). 2. The laws
    are perceptrons with one hidden layer; the mean of a channel stands for its picture. 3. Masks begin with p in the
    place of 1/2.

    Args:
        spec: labelled data with at least two classes.
        p: probability with which a unit is dropped at the start, in (0, 1).
        temperature: of the law that masks are drawn from in training, above 0; 2, as in that code.
        hidden: units of the hidden layer of each law's network; 32, as in that code.
        passes: draws per prediction; as in `StochasticClassifier`.
        record: whether masks depend on the record.
        parts: `net`, `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: no classes, a value out of range, a network without a layer after the first.
    """

    batch_type = Labelled
    kinds = ("image", "vector")
    targets = ("class",)
    papers = ("liu2023gflowout",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        p: float = 0.1,
        temperature: float = 2.0,
        hidden: int = 32,
        passes: int = 16,
        record: bool = True,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if not 0 < p < 1 or temperature <= 0 or hidden < 1 or passes < 1:
            raise UserError(
                f"model.p={p} temperature={temperature} hidden={hidden} passes={passes}: p lies in (0, 1), the "
                "temperature is above 0, there is at least one unit and one pass."
            )
        self.temperature, self.passes = temperature, passes
        classes = len(self.spec.classes)
        self.net = self.build(self.spec.shape, (classes,))
        self.flow = MaskFlow(classes, hidden, p, record)
        self.flow.attach(self.net)
        self.partition = Partition(self.spec.dimensions, classes, hidden) if record else Evidence()
        self.counts = 1 if record else max(1, self.spec.sizes["train"])

    def loss(self, batch: Labelled) -> dict[str, Tensor]:
        labels = F.one_hot(batch.y, len(self.spec.classes)).to(batch.x)
        path = self.flow.follow(Trajectory(labels, self.temperature))
        log_likelihood = -F.cross_entropy(self.net(batch.x), batch.y, reduction="none")
        self.flow.follow(Trajectory())
        log_z = self.partition(batch.x, labels)
        reward = self.counts * log_likelihood
        terms = {
            "cross_entropy": -log_likelihood.mean(),
            "balance": imbalance(log_z, path.log_q, reward, path.log_p).square().mean(),
        }
        prior = torch.as_tensor(path.log_p)
        return terms | {"prior": -prior.mean()} if prior.requires_grad else terms

    def predict_members(self, x: Tensor) -> Tensor:
        """x (B, ...) -> log probabilities at masks from p(z|x) or q(z) (passes, B, classes).

        Draws come from torch's global state.
        """
        self.flow.follow(Trajectory())
        rows = x.expand(self.passes, *x.shape).flatten(0, 1)
        logits = self.net(rows).unflatten(0, (self.passes, len(x)))
        self.flow.follow(Trajectory())
        return logits.float().log_softmax(2)


class Partition(nn.Module):
    """ln Z(x, y) (B,), a perceptron of the record and its class; it learns faster, as ln Z has far to go."""

    rate_scale = 10.0

    def __init__(self, dimensions: int, classes: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(dimensions + classes, hidden), nn.SiLU(), nn.Linear(hidden, 1))

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return self.net(torch.cat([x.flatten(1), labels], 1)).squeeze(1)


class Evidence(nn.Module):
    """ln Z of all records, one number (1,); it learns faster, as it is about N times a log-likelihood."""

    rate_scale = 10.0

    def __init__(self) -> None:
        super().__init__()
        self.log_z = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return self.log_z


def imbalance(log_z: Tensor, log_q: Tensor | float, log_likelihood: Tensor, log_prior: Tensor | float) -> Tensor:
    """ln Z + ln q(z) - ln p(y|z) - ln p(z) of each trajectory (B,), without gradients for the last two.

    Masks are drawn in one order, so that each comes about in one way only and the backward law is 1.
    """
    return log_z + log_q - log_likelihood.detach() - torch.as_tensor(log_prior).detach()
