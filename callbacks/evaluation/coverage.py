"""Coverage and size of sets of classes."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from callbacks.evaluation.base import Evaluation
from callbacks.metrics.means import mean
from compendium.errors import UserError
from datamodules.batches import Labelled
from modules.capabilities import SetPredictor
from modules.uncertainty.conformal import exact_interval


class Coverage(Evaluation):
    """Figures of a SetPredictor on Labelled batches with a class as target; a set covers a record if it has its class.

    - `coverage`: share of covered records, and `coverage_low`, `coverage_high`: its exact 95% interval (Clopper and
      Pearson 1934). `covered` and `records` are the counts.
    - `set_size`: mean number of classes in a set; `singletons`, `empty`: shares of the sets of one class and of none.
    - `class_coverage_worst`: the least coverage of the records of one class.
    - `class_coverage_gap`: mean over classes of |coverage of the class - (1 - alpha)| (Ding et al. 2023).
    - `size_coverage_worst`: the least coverage of the records whose sets have one size (Angelopoulos et al. 2021:
      size-stratified coverage).

    Classes and sizes with fewer than `least` records are left out of the last three; NaN where all are.

    Deviations: the authors stratify by ranges of sizes for ImageNet's thousand classes; here each size is one.

    Args:
        least: records of a class or of a size that it takes to be looked at; 20: a share then errs by 0.07 at 0.9.
        parts: the arguments of `Evaluation`.

    Raises:
        UserError: fewer than one record.
    """

    capabilities = (SetPredictor,)
    batch_type = Labelled

    def __init__(self, least: int = 20, **parts) -> None:
        super().__init__(**parts)
        if least < 1:
            raise UserError(f"{self.name}.least={least}: a share is of one record at least.")
        self.least = least

    def misfit(self, method, spec):
        return None if spec.target == "class" else "the target is no class"

    def start(self, method, data) -> None:
        self.rows = [torch.empty(0, 3, dtype=torch.long)]

    def update(self, method, batch) -> None:
        sets = self.ask(method, "predict_set", batch.x)
        covered = sets.gather(1, batch.y.to(sets.device)[:, None]).squeeze(1)
        self.rows.append(torch.stack([covered.long(), sets.sum(1), batch.y.to(sets.device)], 1).cpu())

    def compute(self, method, data) -> Mapping[str, float]:
        covered, size, y = self.rows_of_all(torch.cat(self.rows)).T
        by_class = self.shares(covered, y)
        return {
            **counted(covered),
            "set_size": mean(size),
            "singletons": mean(size == 1),
            "empty": mean(size == 0),
            "class_coverage_worst": least(by_class),
            "class_coverage_gap": mean((by_class - (1 - method.alpha)).abs()),
            "size_coverage_worst": least(self.shares(covered, size)),
        }

    def shares(self, covered: Tensor, stratum: Tensor) -> Tensor:
        """Covered (n,) and strata int64 (n,) -> the share that is covered, of each stratum that is large enough."""
        counts = torch.bincount(stratum)
        hits = torch.bincount(stratum, covered.double(), minlength=len(counts))
        large = counts >= self.least
        return hits[large] / counts[large]


def counted(covered: Tensor) -> dict[str, float]:
    """Whether records are covered (n,) -> the share with its exact interval, and the counts."""
    count, records = int(covered.sum()), len(covered)
    low, high = exact_interval(count, records)
    share = count / records if records else math.nan
    return {
        "coverage": share,
        "coverage_low": low,
        "coverage_high": high,
        "covered": float(count),
        "records": float(records),
    }


def least(shares: Tensor) -> float:
    """The smallest, NaN of none."""
    return float(shares.min()) if len(shares) else math.nan
