"""Whether draws of a class are of that class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from callbacks.evaluation.base import Evaluation
from callbacks.evaluation.density import law_of_x
from callbacks.evaluation.samples import CHUNK
from callbacks.features import feature_net
from compendium.seeding import seeded
from datamodules.batches import Unlabelled
from datamodules.sources.densities import GaussianMixture
from modules.capabilities import ConditionalSampler


class Conditional(Evaluation):
    """Figures of n draws of a ConditionalSampler, equally many of each class.

    - `conditional_accuracy`: share of the draws that a fixed judge takes for the class that was asked for.
    - `conditional_worst`: the same of the class with the lowest.

    The judge of pictures is the classifier of `callbacks.features.feature_space`; that of vectors, where their law is
    a mixture of Gaussians with labels, is the nearest mean. It errs itself: on digits in about 2% of
    the real records. A draw that is not finite is of no class.

    The classification accuracy score of Ravuri and Vinyals 2019 trains a classifier on draws; this one judges draws
    by a classifier trained on records, as the accuracies under guidance in Ho and Salimans 2022 do by an Inception net.

    Args:
        n: number of draws, rounded down to a multiple of the classes. 1000, as in `Samples`.
        parts: the arguments of `Evaluation`.
    """

    capabilities = (ConditionalSampler,)
    batch_type = Unlabelled
    stages = ("test",)

    def __init__(self, n: int = 1000, **parts: Any) -> None:
        super().__init__(**parts)
        self.n = n

    def misfit(self, method, spec):
        if spec.target != "class":
            return "the target is no class"
        return None if self.n >= len(spec.classes) else f"n={self.n} are fewer draws than classes"

    def misfit_of_records(self, data):
        return None if judge_of(data, "test") is not None else "there is no judge of the classes of vectors"

    def compute(self, method, data) -> Mapping[str, float]:
        rank, world = data.share
        classes = len(data.spec.classes)
        order = torch.arange(self.n // classes * classes)
        # Together, so that a process without a chunk has rows of the right shape to give.
        chunks, mine = [torch.empty(0, *data.spec.shape)], [order[:0]]
        for i, rows in enumerate(order.split(CHUNK)):
            if i % world == rank:
                with seeded(data.seed, "conditional", i):
                    chunks.append(method.sample_of((rows % classes).to(method.device)).float().cpu())
                mine.append(rows)
        drawn = self.in_order(torch.cat(chunks), torch.cat(mine))
        return self.on_rank_zero(lambda: self.judge(drawn, order % classes, classes, data))

    def judge(self, drawn: Tensor, y: Tensor, classes: int, data: Any) -> dict[str, float]:
        """Draws (n, ...) and the classes that were asked for (n,) -> the figures."""
        judge = judge_of(data, self.split)
        assert judge is not None
        finite = drawn.flatten(1).isfinite().all(1)
        right = (judge(drawn.nan_to_num(0, 0, 0)) == y) & finite
        share = right.double().reshape(-1, classes).mean(0)
        return {"conditional_accuracy": float(share.mean()), "conditional_worst": float(share.min())}


def judge_of(data: Any, split: str) -> Callable[[Tensor], Tensor] | None:
    """Draws (n, ...) -> the classes they are taken for (n,); None where nobody can tell."""
    if data.spec.kind == "image":
        net = feature_net(data)
        return None if net is None else lambda x: net.head(net.features(x)).argmax(1)
    law = law_of_x(data, split)
    if not isinstance(law, GaussianMixture) or law.labels is None:
        return None
    labels = law.labels
    return lambda x: labels[torch.cdist(x.double(), law.means).argmin(1)]
