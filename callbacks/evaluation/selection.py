"""False discoveries and power of selections."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from callbacks.evaluation.base import Evaluation
from datamodules.batches import SelectionTask
from modules.capabilities import Selector


class Selection(Evaluation):
    """Figures of a Selector over problems of selection; a record is interesting if its target lies above the threshold.

    - `fdr`: mean over problems of the share of the selected that are not interesting, 0 where none is selected.
    - `fdr_se`: its standard error over problems.
    - `power`: mean over problems of the share of the interesting that are selected, 0 where none is interesting.
    - `selected`: mean number of selected records.

    The selector gets NaN in the place of the pool's targets.

    Bai and Jin 2024, "Optimized Conformal Selection", section 2.

    Args:
        parts: the arguments of `Evaluation`.
    """

    capabilities = (Selector,)
    batch_type = SelectionTask
    stages = ("test",)

    def start(self, method, data) -> None:
        self.problems = [torch.empty(0, 3, dtype=torch.float64)]

    def update(self, method, batch) -> None:
        interesting = batch.pool_y > batch.threshold[:, None]
        chosen = method.select(batch._replace(pool_y=torch.full_like(batch.pool_y, torch.nan)))
        right, selected = (chosen & interesting).sum(1), chosen.sum(1)
        shares = [(selected - right) / selected.clamp(min=1), right / interesting.sum(1).clamp(min=1), selected]
        self.problems.append(torch.stack([share.cpu().double() for share in shares], 1))

    def compute(self, method, data) -> Mapping[str, float]:
        problems = self.rows_of_all(torch.cat(self.problems))
        fdr, power, selected = problems.mean(0).tolist()
        se = float(problems[:, 0].std() / len(problems) ** 0.5) if len(problems) > 1 else float("nan")
        return {"fdr": fdr, "fdr_se": se, "power": power, "selected": selected}
