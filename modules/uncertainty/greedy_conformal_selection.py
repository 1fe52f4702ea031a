"""Conformal selection with the model that selects most, on the records that it selects from: no longer valid."""

from __future__ import annotations

import torch
from torch import Tensor

from datamodules.batches import SelectionTask
from modules.uncertainty.conformal_selection import ConformalSelection, benjamini_hochberg, conformal_p_values, largest


class GreedyConformalSelection(ConformalSelection):
    """Conformal selection by each candidate, of which the largest selection is taken; ties are broken at random.

    The choice looks at the records that it is then tested on, and prefers candidates that were lucky: the false
    discovery rate can exceed the level. A contrast, not a method to use.

    Bai and Jin 2024, "Optimized Conformal Selection", section 5.1: the method without correction.
    Deviations: those of `ConformalSelection`.
    """

    def select(self, task: SelectionTask) -> Tensor:
        """B problems -> which records of each pool are chosen, bool (B, m)."""
        selected = benjamini_hochberg(conformal_p_values(*self.scores(task)), self.level)
        return selected[torch.arange(len(selected)), largest(selected.sum(2))]
