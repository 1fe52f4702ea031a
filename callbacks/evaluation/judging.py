"""How often a judge's promise to agree with people is kept, over many calibration sets."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from callbacks.evaluation.base import Evaluation
from callbacks.metrics.calibration import binned_ece
from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.batches import Labelled
from modules.capabilities import SelectiveJudge

AT_ONCE = 10
"""Trials in one piece of memory."""


class Judging(Evaluation):
    """Figures of a SelectiveJudge on Labelled batches whose class is what people say.

    The split's records are the population: from them come calibration sets, `trials` of `calibration` records each,
    without replacement within a set, and on all of them is measured what comes of each. So the agreement that is
    promised is known without an error; a sample from a finite population errs less than an independent one.

    - `kept`: trials in which at least 1 - alpha of the answers are what people say, or in which none is given;
      `trials`: how many there are.
    - `agreement`: mean over trials of the share of answers that people agree with, among trials with answers.
    - `coverage`: mean share of records that are answered.
    - `cost`: mean cost of a record, answered or not.
    - `confidence_ece`: of the last judge: 10 bins of its confidence, and whether its answer is what people say.

    Args:
        trials: calibration sets.
        calibration: records of each; 500, about what Jung et al. 2024 have.
        parts: the arguments of `Evaluation`.

    Raises:
        UserError: a number below 1.
    """

    capabilities = (SelectiveJudge,)
    batch_type = Labelled
    stages = ("test",)

    def __init__(self, trials: int = 200, calibration: int = 500, **parts) -> None:
        super().__init__(**parts)
        if trials < 1 or calibration < 1:
            raise UserError(f"{self.name}.trials={trials}, calibration={calibration}: at least one of each.")
        self.trials, self.calibration = trials, calibration

    def start(self, method, data) -> None:
        self.rows = []

    def update(self, method, batch) -> None:
        self.rows.append(torch.cat([batch.x.double(), batch.y.double()[:, None]], 1).cpu())

    def compute(self, method, data) -> Mapping[str, float]:
        mine = torch.cat(self.rows) if self.rows else torch.empty(0, 1, dtype=torch.float64)
        rows = self.rows_of_all(mine)
        return self.on_rank_zero(lambda: self.figures_of(rows[:, :-1], rows[:, -1].long(), method, data.seed))

    def figures_of(self, x, y, method, seed: int) -> dict[str, float]:
        """The figures of records x (n, D) and what people say of them y (n,)."""
        draw = generator(seed, "judging")
        size = min(self.calibration, len(x))
        sets = torch.stack([torch.randperm(len(x), generator=draw)[:size] for _ in range(self.trials)])
        found = []
        for part in sets.split(AT_ONCE):
            thresholds = method.thresholds(x[part], y[part])
            answers, cost = method.judge(x.expand(len(part), -1, -1), thresholds)
            given = answers >= 0
            right = (answers == y).sum(1)
            found.append(torch.stack([given.sum(1).double(), right.double(), cost.mean(1)], 1))
        given, right, cost = torch.cat(found).T
        agreement = right / given
        confidence, answer = (part[..., -1] for part in method.confidence(x))
        return {
            "kept": float(((agreement >= 1 - method.alpha) | (given == 0)).sum()),
            "trials": float(self.trials),
            "agreement": float(agreement[given > 0].mean()),
            "coverage": float(given.mean() / len(x)),
            "cost": float(cost.mean()),
            "confidence_ece": binned_ece(confidence, (answer == y).double(), 10),
        }
