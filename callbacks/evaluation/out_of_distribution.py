"""Whether a classifier knows records that it should not know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from callbacks.evaluation.base import Evaluation
from callbacks.evaluation.selective import known, scores
from callbacks.metrics.detection import separation
from callbacks.metrics.precision import precise
from compendium.config import instantiate
from compendium.errors import UserError
from compendium.seeding import seeded
from datamodules.batches import Labelled
from datamodules.source import Source
from modules.capabilities import Classifier


class OutOfDistribution(Evaluation):
    """How well a Classifier's uncertainty tells the records of another law from test records.

    - `ood_auroc`, `ood_aupr`, `ood_fpr95`: by 1 - highest probability, records of the other law being what is looked
      for (Hendrycks and Gimpel 2017); the same with `_entropy`, and with `_mutual_information` and `_uncertainty`
      where the method has them (see `callbacks.evaluation.selective`).

    The other law is a source's, or one that matches the test records: each component is one of theirs, drawn apart from
    the other components, so that every marginal law is right and nothing else is.

    Process 0 computes.

    Args:
        source: config of the other source, of records of the same shape; pictures of another size are resampled.
            None: the matched law.
        limit: how many records of each, the first ones.
        parts: the arguments of `Evaluation`.

    Raises:
        UserError: a limit below 1; records of another kind or shape.
    """

    capabilities = (Classifier,)
    batch_type = Labelled
    stages = ("test",)

    def __init__(self, source: Mapping[str, Any] | None = None, limit: int = 1000, **parts: Any) -> None:
        super().__init__(**parts)
        if limit < 1:
            raise UserError(f"{self.name}.limit={limit}: at least one record.")
        self.source, self.limit = source, limit

    def misfit(self, method, spec):
        if spec.target != "class":
            return "the target is no class"
        return None if spec.kind in ("image", "vector") else f"{spec.kind} has no components to be shuffled"

    def misfit_of_records(self, data):
        return None if {"x", "y"} <= set(data.columns) else "the records have no x and y of their own"

    def update(self, method, batch) -> None:
        """Nothing: `compute` takes the records by itself."""

    def compute(self, method, data) -> Mapping[str, float]:
        return self.on_rank_zero(lambda: self.figures_of(method, data))

    def figures_of(self, method: Any, data: Any) -> dict[str, float]:
        """The figures by each score."""
        own = self.columns_of(method, data, self.limit)
        count = len(own["x"])
        with seeded(data.seed, "out of distribution"):
            other = self.records(own["x"]) if self.source is None else self.drawn(own["x"])
            # Targets are asked of no record of the other law: those of the own ones stand in for them.
            stand_in = torch.arange(len(other), device=other.device) % count
            foreign = {name: column[stand_in] for name, column in own.items()} | {"x": other}
            inside, outside = (self.judged(method, data.present(columns, self.split).x) for columns in (own, foreign))
        positive = torch.cat([torch.zeros(count), torch.ones(len(other))]).bool()
        figures = {}
        for name in known(method):
            told = separation(torch.cat([inside[name], outside[name]]), positive)
            ending = "" if name == "confidence" else f"_{name}"
            figures |= {f"ood_{figure}{ending}": value for figure, value in told.items()}
        return figures

    @staticmethod
    def judged(method: Any, x: Tensor) -> dict[str, Tensor]:
        """The scores of records, a thousand at a time."""
        parts = [scores(method, part, precise(method.predict_log_proba(part))) for part in x.split(1024)]
        return {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}

    @staticmethod
    def records(x: Tensor) -> Tensor:
        """Records (n, ...) of the matched law: components of theirs, each drawn on its own."""
        flat = x.flatten(1)
        return flat.gather(0, torch.rand_like(flat, dtype=torch.float32).argsort(0)).view_as(x)

    def drawn(self, like: Tensor) -> Tensor:
        """The first records of the other source, in the shape of the own ones."""
        assert self.source is not None
        source: Source = instantiate(self.source, where=f"callbacks.evaluation.{self.name}.source")
        column = source.load().columns["x"]
        x = column[torch.randperm(len(column))[: self.limit]].to(like)
        if x.shape[1:] != like.shape[1:] and x.dim() == 4 and x.shape[1] == like.shape[1]:
            x = torch.nn.functional.interpolate(x, like.shape[2:], mode="bilinear", antialias=True)
        if x.shape[1:] != like.shape[1:]:
            raise UserError(
                f"callbacks.evaluation.{self.name}.source has records of shape {tuple(x.shape[1:])}, "
                f"the data {tuple(like.shape[1:])}.",
                "choose a source of such records",
            )
        return x
