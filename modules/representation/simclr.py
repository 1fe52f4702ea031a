"""SimCLR: contrast the two views of a record with all others of the batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.spec import DataSpec
from modules.representation.joint_embedding import JointEmbedding


class SimCLR(JointEmbedding):
    """Normalised, temperature-scaled cross-entropy (NT-Xent), the InfoNCE loss of two views.

    Each of the 2N projections of a batch is an anchor i. With cosine similarities s_ij, the other view p(i) of the same
    record as positive and the 2N - 2 views of other records as negatives,

        loss = mean_i -log( exp(s_ip / tau) / (exp(s_ip / tau) + U_i) ),    U_i = sum_{negatives j} exp(s_ij / tau)

    Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual Representations", equation 1 and
    Algorithm 1.

    Deviations: (1) no batch normalisation, in encoder and projection; (2) optimizer and augmentations are what the
    config chooses, the defaults being small.

    Args:
        spec: images or vectors.
        temperature: tau, above 0. Default 0.5, the paper's for CIFAR-10 (appendix B.9).
        projection: widths of the projection's layers. The paper: a hidden layer as wide as the representation, then
            128 (section 4.2); 64 is the width of the default network's representation.
        parts: `net`, `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: a temperature that is not positive.
    """

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        temperature: float = 0.5,
        projection: Sequence[int] = (64, 128),
        **parts: Any,
    ) -> None:
        super().__init__(spec, projection, **parts)
        if temperature <= 0:
            raise UserError(f"model.temperature={temperature}: similarities are divided by it; it lies above 0.")
        self.temperature = temperature

    def agreement(self, a: Tensor, b: Tensor) -> Tensor:
        positive, log_negatives = self.contrast(a, b)
        return (torch.logaddexp(positive, log_negatives) - positive).mean()

    def contrast(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Projections of two views (N, D) each -> s_ip / tau and log U_i of the anchors a_1, ..., a_N, b_1, ..., b_N.

        Raises:
            UserError: a batch of one record, which has no negative.
        """
        n = len(a)
        if n < 2:
            raise UserError("a batch of one record has no negatives.", "choose datamodule.batch_size of 2 or more")
        z = F.normalize(torch.cat([a, b]), dim=1)
        similarity = z @ z.T / self.temperature
        own = torch.eye(n, dtype=torch.bool, device=z.device).repeat(2, 2)  # the anchor itself, and its positive
        return similarity.diagonal(n).repeat(2), similarity.masked_fill(own, -torch.inf).logsumexp(1)
