"""Conformal selection with a model that was chosen on labelled records of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.batches import SelectionTask
from datamodules.spec import DataSpec
from modules.uncertainty.conformal_selection import ConformalSelection, benjamini_hochberg, conformal_p_values, largest


class SplitConformalSelection(ConformalSelection):
    """Part of the labelled records chooses the candidate, the others calibrate it.

    The first part is halved: each candidate is calibrated on one half and selects from the other as from a pool. The
    one that selects most, ties broken at random, is calibrated on the records that are left. Choice and calibration are
    independent, so that the false discovery rate is at most the level.

    Bai and Jin 2024, "Optimized Conformal Selection", section 5.1: the baseline that splits the calibration data.
    Deviations: those of `ConformalSelection`.

    Args:
        spec: records with a real target.
        choosing: share of the labelled records that choose, in (0, 1); a half, as there.
        parts: the arguments of `ConformalSelection`.

    Raises:
        UserError: a share out of range, one that leaves a part without records.
    """

    def __init__(self, spec: DataSpec | Mapping[str, Any], choosing: float = 0.5, **parts: Any) -> None:
        super().__init__(spec, **parts)
        if not 0 < choosing < 1:
            raise UserError(f"model.choosing={choosing}: it is a share of the labelled records, in (0, 1).")
        self.choosing = choosing

    def select(self, task: SelectionTask) -> Tensor:
        """B problems -> which records of each pool are chosen, bool (B, m)."""
        calibration, pool = self.scores(task)
        n = calibration.shape[2]
        half = round(self.choosing * n / 2)
        if not 0 < 2 * half < n:
            raise UserError(
                f"model.choosing={self.choosing}: of {n} labelled records, {2 * half} choose and {n - 2 * half} "
                "calibrate; both need some.",
                "take another share, or more records: datamodule.calibration",
            )
        tried, left = calibration[..., :half], calibration[..., 2 * half :]
        trial_x = task.calibration_x[:, half : 2 * half]
        _, trial_pool = self.scores(task._replace(pool_x=trial_x))
        trial = benjamini_hochberg(conformal_p_values(tried, trial_pool), self.level)
        problem, chosen = torch.arange(len(pool)), largest(trial.sum(2))
        return benjamini_hochberg(conformal_p_values(left[problem, chosen], pool[problem, chosen]), self.level)
