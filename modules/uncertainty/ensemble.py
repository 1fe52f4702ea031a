"""Deep ensembles, trained as one batched network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.hashing import GOLDEN, mixed
from modules.networks.stacked import Stacked
from modules.uncertainty.members import MembersClassifier


class DeepEnsemble(MembersClassifier):
    """K networks, each trained by cross-entropy from initial weights of its own (Lakshminarayanan et al. 2017).

        loss = sum_k mean_i w_ik (-ln softmax(f_k(x_i))_y_i),      p(y|x) = mean_k softmax(f_k(x))_y

    w_ik = 1, or with `bootstrap` a draw from Poisson(1) that is a function of record and member: the limit of drawing N
    of N records with replacement ("online bagging", Oza and Russell 2001). The members are one batched network
    (`modules.networks.stacked`). As the loss is a sum, each has the gradients of a run of its own.

    Deviations: 1. Members see the records in one order, in the same batches; Lakshminarayanan et al. shuffle for each.
    2. No adversarial training, which they found to matter little.

    Args:
        spec: labelled data with at least two classes.
        members: K; 5, as in the experiments of Lakshminarayanan et al.
        bootstrap: whether each member has weights of the records of its own.
        parts: `net` (a config: each member is built from it), `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: no classes, fewer than one member.
    """

    batch_type = Labelled
    targets = ("class",)
    otherwise = "for a real target: model=uncertainty/regression_ensemble"

    def __init__(
        self, spec: DataSpec | Mapping[str, Any], members: int = 5, bootstrap: bool = False, **parts: Any
    ) -> None:
        super().__init__(spec, **parts)
        self.members, self.bootstrap = checked(members), bootstrap
        self.net = Stacked([self.build(self.spec.shape, (len(self.spec.classes),)) for _ in range(members)])

    def loss(self, batch: Labelled) -> Tensor:
        logits = self.net(batch.x)
        losses = F.cross_entropy(
            logits.flatten(0, 1), batch.y.expand(self.members, -1).flatten(), reduction="none"
        ).view(self.members, -1)
        if self.bootstrap:
            losses = losses * poisson_weights(batch.x, self.members)
        return losses.mean(1).sum()

    def predict_members(self, x: Tensor) -> Tensor:
        """x (B, ...) -> log probabilities of each network (K, B, classes)."""
        return self.net(x).float().log_softmax(2)


def checked(members: int) -> int:
    """The number of members.

    Raises:
        UserError: fewer than one.
    """
    if members < 1:
        raise UserError(f"model.members={members}: there is at least one.")
    return members


def hashed(x: Tensor) -> Tensor:
    """Records (B, ...) -> a hash of each (splitmix64 of its bits), int64 (B,), at least 0."""
    bits = x.flatten(1).float().view(torch.int32).long()
    place = torch.arange(1, bits.shape[1] + 1, device=x.device)
    return mixed(mixed(bits * GOLDEN + place).sum(1)) & (1 << 62) - 1


def poisson_weights(x: Tensor, members: int) -> Tensor:
    """Records (B, ...) -> draws from Poisson(1) (members, B), a hash of record and member (splitmix64 of its bits).

    So a record weighs the same for a member in every epoch, and no state has to be kept.
    """
    member = torch.arange(1, members + 1, device=x.device)[:, None]
    uniform = ((mixed(hashed(x) + member * GOLDEN) >> 11) & (1 << 53) - 1).double() / (1 << 53)
    counts = torch.arange(20, dtype=torch.float64, device=x.device)
    below = torch.distributions.Poisson(torch.ones((), dtype=torch.float64)).log_prob(counts.cpu()).exp().cumsum(0)
    return torch.searchsorted(below.to(x.device), uniform, right=True).to(x.dtype)
