"""How well scores of answers tell the better one, by what a pair compares."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from callbacks.evaluation.base import Evaluation
from callbacks.metrics.means import mean
from callbacks.metrics.precision import precise
from datamodules.batches import Preferences
from modules.capabilities import AnswerScorer


class PairKinds(Evaluation):
    """Figures of an AnswerScorer on Preferences batches whose records are of kinds (`datamodules.source.Dialogues`).

    - `accuracy_KIND`: share of the pairs of this kind whose chosen answer has the higher score; ties count half.

    Args:
        parts: the arguments of `Evaluation`.
    """

    capabilities = (AnswerScorer,)
    batch_type = Preferences

    def misfit_of_records(self, data):
        dialogues = getattr(getattr(data, "_records", None), "dialogues", None)
        return None if getattr(dialogues, "kinds", ()) else "records are of no kinds"

    def start(self, method, data) -> None:
        self.data = data
        self.right, self.rows = [torch.empty(0, dtype=torch.float64)], [torch.empty(0, dtype=torch.int64)]

    def update(self, method, batch) -> None:
        scores = precise(method.answer_scores(batch.pairs, batch.answers)).cpu()
        self.right.append((1 + (scores[:, 0] - scores[:, 1]).sign()) / 2)
        self.rows.append(self.data.rows[self.split][self.positions(self.data)])

    def compute(self, method, data) -> Mapping[str, float]:
        right, rows = (self.rows_of_all(torch.cat(part)) for part in (self.right, self.rows))
        found: dict[str, list[int]] = {}
        for place, row in enumerate(rows.tolist()):
            for kind in data.dialogues.kinds[row]:
                found.setdefault(kind, []).append(place)
        return {f"accuracy_{kind}": mean(right[places]) for kind, places in sorted(found.items())}
