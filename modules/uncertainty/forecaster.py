"""Forecasts taken at their word, or recalibrated by a histogram."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.method import SolvedMethod


class Forecaster(SolvedMethod):
    """The record itself as the probability of the second class: what evaluations of calibration are tried on.

        p(y = 1 | x) = x                                                   as it is
        p(y = 1 | x) = (1 + outcomes in the bin of x) / (2 + records in it)      with `recalibrate`

    The second line is histogram binning on the training records, in bins of equal width, with Laplace's correction
    (Zadrozny and Elkan 2001, "Obtaining calibrated probability estimates from decision trees and naive Bayesian
    classifiers").

    Deviations: bins of equal width, where Zadrozny and Elkan's hold equally many records: one pass suffices.

    Args:
        spec: forecasts in [0, 1] as vectors of one component, with two classes.
        recalibrate: learn the second line.
        bins: of the histogram; 10, as in Zadrozny and Elkan.
        parts: see `Method`.

    Raises:
        UserError: records that are no forecasts of a binary event, fewer than one bin.
    """

    count: Tensor
    outcomes: Tensor

    batch_type = Labelled
    kinds = ("vector",)
    targets = ("class",)

    def __init__(
        self, spec: DataSpec | Mapping[str, Any], recalibrate: bool = True, bins: int = 10, **parts: Any
    ) -> None:
        super().__init__(spec, **parts)
        if bins < 1:
            raise UserError(f"model.bins={bins}: there is at least one.")
        self.recalibrate, self.bins = recalibrate, bins
        self.register_buffer("count", torch.zeros(bins, dtype=torch.float64))
        self.register_buffer("outcomes", torch.zeros(bins, dtype=torch.float64))

    @classmethod
    def check(cls, spec: DataSpec) -> None:
        super().check(spec)
        if spec.shape != (1,) or len(spec.classes) != 2 or spec.bounds != (0.0, 1.0):
            raise UserError(
                f"{cls.__name__} takes forecasts of a binary event, one number in [0, 1]; '{spec.name}' has records of "
                f"shape {spec.shape} and {len(spec.classes)} classes, bounds {spec.bounds}.",
                "data that would do: forecasts, with datamodule.scale=none",
            )

    def accumulate(self, batch: Labelled) -> None:
        index = self.bin_of(batch.x[:, 0])
        counts = torch.zeros(2, self.bins, dtype=torch.float64, device=batch.x.device)
        counts[0].index_add_(0, index, torch.ones_like(index, dtype=torch.float64))
        counts[1].index_add_(0, index, batch.y.double())
        counts = self.sum_of_all(counts)
        self.count += counts[0]
        self.outcomes += counts[1]

    def predict_log_proba(self, x: Tensor) -> Tensor:
        """x (B, 1) -> log probabilities (B, 2), float64."""
        p = x[:, 0].double()
        if self.recalibrate:
            p = ((1 + self.outcomes) / (2 + self.count))[self.bin_of(p)]
        return torch.stack([torch.log1p(-p), torch.log(p)], 1)

    def bin_of(self, p: Tensor) -> Tensor:
        """Forecasts (B,) -> bins [0, 1 / bins), [1 / bins, 2 / bins), ... int64 (B,)."""
        return (p * self.bins).long().clamp(0, self.bins - 1)
