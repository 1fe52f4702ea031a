"""A classifier that knows what it does not know, because it predicts pairs of responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.batches import Responses
from datamodules.spec import DataSpec
from modules.method import Method


class PairClassifier(Method):
    """p(y_1, y_2 | x) = p_1(y_1|x) p_2(y_2|x, y_1), learned from two independent responses to the same record.

        loss = mean_i -ln p_1(y_i|x_i) - ln p_2(y'_i|x_i, y_i)
        V(y|x) = p_1(y|x) (p_2(y|x, y) - p_1(y|x))

    Whoever knows the law of the response gains nothing from seeing one: p_2 = p_1, and V = 0. Whoever cannot tell a
    record from others of other laws guesses from one response what the law is, and cheats. Where the network's pairs
    are calibrated, p_1(y) p_2(y|y) = E[p(y|X)^2 | what the network tells apart], so that V is the variance of the true
    p(y|X) around p_1, second-order calibration, and by Chebyshev's inequality

        P(|p(y|X) - p_1(y|X)| >= sqrt(V / beta)) <= beta.

    The network gives 1 + C rows of C logits: those of p_1, and of p_2 after each first response.

    Johnson et al. 2024, "Experts Don't Cheat: Learning What You Don't Know By Predicting Pairs". The two laws, the
    cheat-corrected variance and the bound follow the paper's abstract and were derived here; the text of the paper was
    not at hand.
    Deviations: 1. V is cut off at 0, which calibrated pairs never fall below. 2. p_2 has logits of its own for each
    first response, as suits few classes; pairs are not forced to be symmetric, the responses change places in the data.

    Args:
        spec: records with two responses in classes (`datamodule=two_responses`).
        parts: `net`, `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: no classes.
    """

    batch_type = Responses
    kinds = ("image", "vector")
    targets = ("class",)
    papers = ("johnson2024experts",)

    def __init__(self, spec: DataSpec | Mapping[str, Any], **parts: Any) -> None:
        super().__init__(spec, **parts)
        classes = len(self.spec.classes)
        self.net = self.build(self.spec.shape, (1 + classes, classes))

    def log_laws(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, ...) -> ln p_1 (B, C) and ln p_2 (B, C, C): second response by column, first by row."""
        log_proba = self.net(x).float().log_softmax(2)
        return log_proba[:, 0], log_proba[:, 1:]

    def loss(self, batch: Responses) -> dict[str, Tensor]:
        first, second = self.log_laws(batch.x)
        after = second[torch.arange(len(batch.y), device=batch.y.device), batch.y]
        return {"first": F.nll_loss(first, batch.y), "second": F.nll_loss(after, batch.other)}

    def predict_log_proba(self, x: Tensor) -> Tensor:
        """x (B, ...) -> ln p_1 (B, classes)."""
        return self.log_laws(x)[0]

    def epistemic_variance(self, x: Tensor) -> Tensor:
        """x (B, ...) -> V (B, classes), in [0, 1/4]."""
        first, second = self.log_laws(x)
        return cheating(first.exp(), second.exp())

    def uncertainty(self, x: Tensor) -> Tensor:
        """x (B, ...) -> sum of V over classes (B,): the expected squared distance of the laws."""
        return self.epistemic_variance(x).sum(1)


def cheating(first: Tensor, second: Tensor) -> Tensor:
    """p_1 (B, C) and p_2 (B, C, C), first response by row -> p_1(y) (p_2(y|y) - p_1(y)), at least 0 (B, C)."""
    return (first * (second.diagonal(dim1=1, dim2=2) - first)).clamp_min(0)
