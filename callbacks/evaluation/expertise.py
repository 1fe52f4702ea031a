"""Where an expert knows more than a predictor can."""

from __future__ import annotations

from collections.abc import Mapping

from callbacks.evaluation.base import Evaluation
from compendium.errors import UserError
from datamodules.batches import Anything
from modules.capabilities import ExpertTested


class Expertise(Evaluation):
    """Figures of the tests of a method that has tested an expert in sets of records.

    - `rejections`: sets in which the hypothesis that the expert knows nothing is rejected at `level`; `sets`: how many
      there are. Without expertise the share is the level at most, on average.
    - `useful`: their share.
    - `smallest_p`: the smallest p-value, times the number of sets (Bonferroni), at most 1.

    Args:
        level: of each test, in (0, 1).
        parts: the arguments of `Evaluation`.

    Raises:
        UserError: a level out of range.
    """

    capabilities = (ExpertTested,)
    batch_type = Anything
    stages = ("test",)

    def __init__(self, level: float = 0.05, **parts) -> None:
        super().__init__(**parts)
        if not 0 < level < 1:
            raise UserError(f"{self.name}.level={level}: it is a probability, in (0, 1).")
        self.level = level

    def compute(self, method, data) -> Mapping[str, float]:
        p = method.expertise()
        rejected = int((p <= self.level).sum())
        return {
            "rejections": float(rejected),
            "sets": float(len(p)),
            "useful": rejected / len(p),
            "smallest_p": min(1.0, float(p.min()) * len(p)),
        }
