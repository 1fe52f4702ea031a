"""Losses of several tasks, weighed by how uncertain each task is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from compendium.errors import UserError
from datamodules.spec import DataSpec
from modules.supervised.surveyor import TASKS, MultiTaskSurvey

LIKELIHOOD = {"semantic": 1.0, "offset": 0.5, "depth": 0.5}
"""What 1 / sigma^2 is multiplied by: 1 for a class, a half for a number."""


class LogVariances(nn.Module):
    """s_i = ln sigma_i^2 of each task, 0 at first.

    Args:
        rate_scale: how many times faster than the network they learn.
    """

    def __init__(self, rate_scale: float) -> None:
        super().__init__()
        self.rate_scale = rate_scale
        self.values = nn.Parameter(torch.zeros(len(TASKS)))


class UncertaintyWeightedSurvey(MultiTaskSurvey):
    """The losses of `MultiTaskSurvey`, each divided by a variance that is learned with the network:

        loss = sum over numbers L_i / (2 sigma_i^2) + sum over classes L_i / sigma_i^2 + sum_i ln sigma_i

    sigma_i^2 is the noise of task i, the same for all records: of a normal law of a number, and the temperature of the
    softmax of a class. What is learned are s_i = ln sigma_i^2, so that nothing is divided by 0. At their optimum
    sigma_i^2 is L_i for a number and 2 L_i for a class, and the loss is sum_i (ln L_i) / 2 and a constant: its gradient
    stays the same, whatever unit a target has.

    Kendall, Gal and Cipolla 2018, "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and
    Semantics", sections 3.2 and 4. The formula is from notes on the paper and its unofficial implementations; the
    authors' own example (github.com/yaringal/multi-task-learning-example) has squared errors and s_i for s_i / 2.

    Deviations: (1) tasks share all but the last layer of the network, where the paper has decoders of their own. (2)
    The s_i learn `rate_scale` times faster than the network, for they have hundreds of steps here to cross a range of
    ln 100 and not a hundred thousand. (3) As in the paper, errors of numbers are absolute and not squared ones, for
    which the factor 1/2 is that of the normal law all the same.

    Args:
        spec: pictures with masks.
        rate_scale: see deviation 2; above 0.
        parts: the arguments of `MultiTaskSurvey`.

    Raises:
        UserError: a rate that is not positive.
    """

    papers = ("kendall2018multi",)

    def __init__(self, spec: DataSpec | Mapping[str, Any], rate_scale: float = 10.0, **parts: Any) -> None:
        super().__init__(spec, **parts)
        if rate_scale <= 0:
            raise UserError(f"model.rate_scale={rate_scale}: above 0.")
        self.log_variances = LogVariances(rate_scale)

    def weighed(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        terms = {}
        for s, (task, loss) in zip(self.log_variances.values, losses.items(), strict=True):
            terms[task] = LIKELIHOOD[task] * (-s).exp() * loss
            terms[f"{task}_ln_sigma"] = s / 2
        return terms
