"""What becomes of draws of one law that are carried to another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from callbacks.evaluation.base import Evaluation
from callbacks.evaluation.density import law_of_x
from compendium.seeding import generator
from datamodules.batches import Unlabelled
from datamodules.sources.densities import GaussianMixture
from modules.capabilities import Translator


class Translation(Evaluation):
    """Figures of n draws x of a Translator's source law, which become T(x).

    - `transport_cost`: mean of |T(x) - x|^2.
    - `kept`: share of the draws whose class, that of their component, is also that of the component of the data's law
      with the mean nearest to T(x). Only where both are mixtures of Gaussians in classes.

    Draws are the same for all methods.

    Args:
        n: number of draws; 5000 leave a standard error of at most 0.007 in `kept`.
        parts: the arguments of `Evaluation`.
    """

    capabilities = (Translator,)
    batch_type = Unlabelled
    stages = ("test",)

    def __init__(self, n: int = 5000, **parts: Any) -> None:
        super().__init__(**parts)
        self.n = n

    def compute(self, method, data) -> Mapping[str, float]:
        return self.on_rank_zero(lambda: self.compare(method, law_of_x(data, self.split)))

    def compare(self, method: Any, target: Any) -> dict[str, float]:
        """The figures, where the law of the data is `target`, or not known."""
        numbers, classes = generator(0, "translation"), None
        if isinstance(method.law, GaussianMixture):
            x, component = method.law.draw(self.n, numbers)
            classes = None if method.law.labels is None else method.law.labels[component]
        else:
            x = method.law.sample(self.n, numbers)
        moved = method.translate(x.to(method.device)).cpu()
        figures = {"transport_cost": float((moved - x).flatten(1).square().sum(1).mean())}
        if classes is not None and isinstance(target, GaussianMixture) and target.labels is not None:
            nearest = torch.cdist(moved.double(), target.means.double()).argmin(1)
            figures["kept"] = float((target.labels[nearest] == classes).double().mean())
        return figures
