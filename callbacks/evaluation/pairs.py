"""Whether records and classes that were drawn together belong together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from callbacks.evaluation.base import Evaluation
from callbacks.evaluation.conditional import judge_of
from callbacks.evaluation.samples import CHUNK
from compendium.seeding import seeded
from datamodules.batches import Unlabelled
from modules.capabilities import JointSampler


class Pairs(Evaluation):
    """Figures of n pairs (x, y) of a JointSampler.

    - `pair_agreement`: share of the draws x that the judge of `callbacks.evaluation.conditional` takes for their y. It
      errs itself: on digits in about 2% of the real records. A draw that is not finite is of no class.
    - `pair_entropy`: entropy of the frequencies of y in nats, over the log of the number of classes: 1 if all are as
      frequent, 0 if it is one class alone.

    Args:
        n: number of pairs. 1000, as in `Samples`.
        parts: the arguments of `Evaluation`.
    """

    capabilities = (JointSampler,)
    batch_type = Unlabelled
    stages = ("test",)

    def __init__(self, n: int = 1000, **parts: Any) -> None:
        super().__init__(**parts)
        self.n = n

    def misfit(self, method, spec):
        return None if spec.target == "class" else "the target is no class"

    def misfit_of_records(self, data):
        return None if judge_of(data, "test") is not None else "there is no judge of the classes of vectors"

    def compute(self, method, data) -> Mapping[str, float]:
        rank, world = data.share
        order = torch.arange(self.n)
        # Together, so that a process without a chunk has rows of the right shape to give.
        chunks, classes, mine = [torch.empty(0, *data.spec.shape)], [order[:0]], [order[:0]]
        for i, rows in enumerate(order.split(CHUNK)):
            if i % world == rank:
                with seeded(data.seed, "pairs", i):
                    x, y = method.sample_pairs(len(rows))
                chunks.append(x.float().cpu())
                classes.append(y.cpu())
                mine.append(rows)
        x, y = (self.in_order(torch.cat(part), torch.cat(mine)) for part in (chunks, classes))
        return self.on_rank_zero(lambda: self.judge(x, y, data))

    def judge(self, drawn: Tensor, y: Tensor, data: Any) -> dict[str, float]:
        """Draws (n, ...) and their classes (n,) -> the figures."""
        judge = judge_of(data, self.split)
        assert judge is not None
        finite = drawn.flatten(1).isfinite().all(1)
        right = (judge(drawn.nan_to_num(0, 0, 0)) == y) & finite
        count = len(data.spec.classes)
        share = torch.bincount(y, minlength=count).double() / len(y)
        entropy = float(torch.special.entr(share).sum()) / math.log(count)
        return {"pair_agreement": float(right.double().mean()), "pair_entropy": entropy}
