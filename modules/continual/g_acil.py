"""G-ACIL: class-incremental learning in closed form, equal to joint training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from compendium.config import locate
from compendium.errors import UserError
from compendium.restore import read_checkpoint
from compendium.seeding import generator
from datamodules.batches import TaskBatch
from datamodules.spec import DataSpec
from modules.method import Method, SolvedMethod

UNSEEN = 1e-12
"""Probability of a class that no task has shown yet."""


class GACIL(SolvedMethod):
    """Recursive least squares on random features, whose weights after any stream are those of joint ridge regression.

    With features X_k (n, D) and one-hot targets Y_k (n, classes) of the k-th batch, from R_0 = I / ridge and W_0 = 0:

        R_k = R_{k-1} - R_{k-1} X_k' (I + X_k R_{k-1} X_k')^-1 X_k R_{k-1}
        W_k = W_{k-1} + R_k X_k' (Y_k - X_k W_{k-1})

    so that R_k = (sum_i X_i' X_i + ridge I)^-1 and W_k = R_k sum_i X_i' Y_i. Columns of classes that were not seen yet
    are zero; for them the second line is R_k X_k' Y_k, the paper's "unexposed" part, and for the others its "exposed"
    part. Features are relu(f(x) B) with a frozen encoder f and a fixed random matrix B, the paper's buffer.

    Zhuang et al. 2024, "G-ACIL: Analytic Learning for Exemplar-Free Generalized Class Incremental Learning".

    Deviations: (1) one equation for both parts, with zero columns for unexposed classes; (2) the recursion runs per
    batch instead of per task, which changes nothing in exact arithmetic; (3) float64 throughout; (4) the default
    encoder is the identity on pixels instead of a pretrained vision transformer: give `backbone` for one.

    Args:
        spec: labelled data.
        features: D, width of the buffer (the paper: 5000 for ImageNet-R).
        ridge: the regularisation, above 0.
        backbone: checkpoint of an `Encoder` that maps x to features; it is frozen. None: the pixels themselves.
        seed: of the random matrix.
        parts: see `Method`.

    Raises:
        UserError: a ridge that is not positive, a backbone that is no Encoder.
    """

    buffer: Tensor
    R: Tensor
    W: Tensor
    seen: Tensor

    batch_type = TaskBatch
    kinds = ("image", "vector")
    targets = ("class",)
    papers = ("zhuang2024gacil",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        features: int = 1024,
        ridge: float = 1.0,
        backbone: str | Mapping[str, Any] | None = None,
        seed: int = 0,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if ridge <= 0:
            raise UserError(f"model.ridge={ridge}: it must be above 0, or there is no solution to start from.")
        self.backbone, width = self._frozen(backbone)
        scale = width**-0.5
        self.register_buffer("buffer", torch.randn(width, features, generator=generator(seed, "buffer")) * scale)
        self.register_buffer("R", torch.eye(features, dtype=torch.float64) / ridge)
        self.register_buffer("W", torch.zeros(features, len(self.spec.classes), dtype=torch.float64))
        self.register_buffer("seen", torch.zeros(len(self.spec.classes), dtype=torch.bool))

    def accumulate(self, batch: TaskBatch) -> None:
        X = self.rows_of_all(self.embed(batch.x).double())
        y = self.rows_of_all(batch.y[:, None]).squeeze(1)
        Y = F.one_hot(y, self.W.shape[1]).double()
        RX = self.R @ X.T
        S = torch.eye(len(X), dtype=X.dtype, device=X.device) + X @ RX
        gain = torch.linalg.solve(S, RX.T).T  # R_{k-1} X' S^-1, which equals R_k X'
        self.W += gain @ (Y - X @ self.W)
        R = self.R - gain @ RX.T
        self.R.copy_((R + R.T) / 2)  # rounding would make it drift from symmetric
        self.seen[y] = True

    def embed(self, x: Tensor) -> Tensor:
        """x (B, ...) -> relu(f(x) B) (B, features)."""
        h = self.backbone.embed(x) if self.backbone is not None else x.flatten(1)
        return F.relu(h @ self.buffer)

    def predict_log_proba(self, x: Tensor) -> Tensor:
        """x (B, ...) -> log softmax of the regression scores over the classes seen so far (B, classes).

        The scores regress one-hot targets; the softmax makes them probabilities, but not calibrated ones.
        """
        scores = self.embed(x).double() @ self.W
        log_proba = scores.masked_fill(~self.seen, -torch.inf).log_softmax(1)
        return log_proba.masked_fill(~self.seen, torch.tensor(UNSEEN).log().item())

    def _frozen(self, backbone: str | Mapping[str, Any] | None) -> tuple[Any, int]:
        """The encoder and its number of features. Its hyperparameters are kept, so that a checkpoint stands alone."""
        if backbone is None:
            return None, self.spec.dimensions
        if isinstance(backbone, str | Path):
            checkpoint = read_checkpoint(backbone)
            encoder = Method.load_from_checkpoint(backbone)
            self.hparams["backbone"] = {key: checkpoint[key] for key in ("method", "hyper_parameters")}
        else:
            encoder = locate(backbone["method"], "backbone")(**backbone["hyper_parameters"])
        if not hasattr(encoder, "embed"):
            raise UserError(f"model.backbone={backbone}: {type(encoder).__name__} is no Encoder.")
        encoder.eval().requires_grad_(False)
        with torch.no_grad():
            width = encoder.embed(torch.zeros(1, *self.spec.shape)).shape[1]
        return encoder, width
