"""Sets of classes that abstain, on records as they are and under shifts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from callbacks.evaluation.shifted import Shifted
from callbacks.metrics.detection import separation
from callbacks.metrics.means import known_mean, mean
from callbacks.metrics.precision import precise
from datamodules.batches import Labelled
from datamodules.presentations.shifts import SEVERITIES
from modules.capabilities import AbstainingSetPredictor


class Abstention(Shifted):
    """Figures of an AbstainingSetPredictor on test records, by severity of their shift and as means over shifts.

    Of each severity S, 0 for records as they are:

    - `abstention_S`: share of records that it gives no answer to.
    - `coverage_S`: share of the answered records whose set has the class; `marginal_coverage_S`: of all records.
    - `set_size_S`: mean number of classes in the sets of answered records.
    - `answer_accuracy_S`: share of the answered records whose likeliest class is right.
    - `error_auroc_S`: how well its uncertainty tells wrong answers from right ones, all records together.
    - `label_auroc_S`: the same of -ln of the probability of the true class, by which the code of Kumar et al. 2025
      detects. No score of records, for it knows the label.

    Over the severities 1 and up: `abstention_shifted`, `coverage_shifted`, `error_auroc_shifted` and so on. Shares of
    nothing are left out of means. `answered_covered` and `answered` are counts of records as they are.

    Shifts as in `callbacks.evaluation.shifted`. Process 0 computes.

    Args:
        shifts: which; None: all of the kind of records.
        severities: 1 to 5.
        limit: how many test records, the first ones.
        parts: the arguments of `Evaluation`.

    Raises:
        UserError: see `Shifted`.
    """

    capabilities = (AbstainingSetPredictor,)

    def __init__(
        self,
        shifts: Sequence[str] | None = None,
        severities: Sequence[int] = SEVERITIES,
        limit: int = 1000,
        **parts: Any,
    ) -> None:
        super().__init__(shifts=shifts, severities=severities, limit=limit, **parts)

    def figures_of(self, method: Any, data: Any) -> dict[str, float]:
        """The figures of all severities."""
        found = {0: [self.judged(method, data.present(self.columns_of(method, data, self.limit), self.split))]}
        for _, severity, batch in self.batches(method, data):
            found.setdefault(severity, []).append(self.judged(method, batch))
        counts = {name: found[0][0].pop(name) for name in ("answered_covered", "answered")}
        figures = {
            f"{name}_{severity}": known_mean([one[name] for one in at])
            for severity, at in found.items()
            for name in found[0][0]
        }
        for name in found[0][0]:
            figures[f"{name}_shifted"] = known_mean([figures[f"{name}_{severity}"] for severity in self.severities])
        return figures | counts

    @staticmethod
    def judged(method: Any, batch: Labelled) -> dict[str, float]:
        """The figures of one batch."""
        parts = [
            (
                precise(method.predict_log_proba(x)),
                method.predict_set(x),
                precise(method.uncertainty(x)),
                method.abstains(x),
            )
            for x in batch.x.split(1024)
        ]
        log_proba, sets, score, silent = (torch.cat(columns).cpu() for columns in zip(*parts, strict=True))
        y = batch.y.cpu()
        covered = sets.gather(1, y[:, None]).squeeze(1)
        right = log_proba.argmax(1) == y
        told = -log_proba.gather(1, y[:, None]).squeeze(1)
        return {
            "abstention": mean(silent),
            "coverage": mean(covered[~silent]),
            "marginal_coverage": mean(covered),
            "set_size": mean(sets.sum(1)[~silent]),
            "answer_accuracy": mean(right[~silent]),
            "error_auroc": separation(score, ~right)["auroc"],
            "label_auroc": separation(told, ~right)["auroc"],
            "answered_covered": float((covered & ~silent).sum()),
            "answered": float((~silent).sum()),
        }
