"""Ridge regression on all records at once: the joint training that recursive methods claim to equal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.continual.g_acil import GACIL


class JointRidge(GACIL):
    """Weights of ridge regression of one-hot targets on the features of G-ACIL, solved once after the pass:

        W = (X' X + ridge I)^-1 X' Y

    by Cholesky's decomposition of the normal equations, in float64. X (n, D) and Y (n, classes) hold every training
    record: only the sums X' X and X' Y are kept, and nothing recursive is computed.

    Zhuang et al. 2024, equation 6: the joint problem of which the recursion is the exact solution. Deviations: none.

    Args:
        spec: labelled data.
        parts: the arguments of `GACIL`; the same seed gives the same features.
    """

    gram: Tensor
    moment: Tensor

    batch_type = Labelled

    def __init__(self, spec: DataSpec | Mapping[str, Any], **parts: Any) -> None:
        super().__init__(spec, **parts)
        self.ridge = float(parts.get("ridge", 1.0))
        self.register_buffer("gram", torch.zeros_like(self.R))
        self.register_buffer("moment", torch.zeros_like(self.W))

    def accumulate(self, batch: Labelled) -> None:
        X = self.embed(batch.x).double()
        Y = F.one_hot(batch.y, self.W.shape[1]).double()
        self.gram += X.T @ X
        self.moment += X.T @ Y
        self.seen |= Y.sum(0) > 0

    def solve(self) -> None:
        gram, moment = self.sum_of_all(self.gram), self.sum_of_all(self.moment)
        eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        self.W.copy_(torch.cholesky_solve(moment, torch.linalg.cholesky(gram + self.ridge * eye)))
        self.seen.copy_(self.sum_of_all(self.seen.double()) > 0)
