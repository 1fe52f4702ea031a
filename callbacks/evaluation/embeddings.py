"""How much of the class a representation makes easy to read."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from callbacks.evaluation.base import Evaluation
from callbacks.metrics.neighbours import knn_predict
from datamodules.batches import Labelled
from modules.capabilities import Encoder


class Embeddings(Evaluation):
    """Accuracy of two simple classifiers on the embeddings of an Encoder; data with a class as target.

    Both learn from the first `limit` training records, presented and embedded as in evaluation.

    - `linear_probe`: multinomial logistic regression (scikit-learn's L-BFGS, its default penalty C = 1) on embeddings
      standardised by the training ones.
    - `knn`: k nearest neighbours by cosine similarity, weighted by exp(similarity / temperature), see
      `callbacks.metrics.neighbours.knn_predict`.

    Embeddings that are not finite make both NaN, training records of one class alone make `linear_probe` NaN.

    Args:
        limit: number of training records, None for all. 10000 keeps the probe below about a minute.
        k: number of neighbours (Caron et al. 2021, appendix F.1: 20).
        temperature: of the neighbours' weights (Wu et al. 2018, section 3.4: 0.07).
        parts: the arguments of `Evaluation`.
    """

    capabilities = (Encoder,)
    batch_type = Labelled
    stages = ("test",)

    def __init__(self, limit: int | None = 10_000, k: int = 20, temperature: float = 0.07, **parts: Any) -> None:
        super().__init__(**parts)
        self.limit = limit
        self.k = k
        self.temperature = temperature

    def misfit(self, method, spec):
        return None if spec.target == "class" else "the target is no class"

    def start(self, method, data) -> None:
        self.embedded: list[Tensor] = []
        self.labels = [torch.empty(0, dtype=torch.long)]

    def update(self, method, batch) -> None:
        self.embedded.append(self.ask(method, "embed", batch.x).float().cpu())
        self.labels.append(batch.y.cpu())

    def compute(self, method, data) -> Mapping[str, float]:
        queries = self.rows_of_all(torch.cat(self.embedded or [torch.empty(0)]))
        answers = self.rows_of_all(torch.cat(self.labels))
        train, labels = self.embed_training(method, data)
        return self.on_rank_zero(lambda: self.compare(train, labels, queries, answers, len(data.spec.classes)))

    def embed_training(self, method: Any, data: Any) -> tuple[Tensor, Tensor]:
        """Embeddings (N, D) and classes (N,) of training records: each process embeds its share, all get all."""
        rank, world = data.share
        batch = data.records("train", self.limit)
        share = torch.arange(len(batch.y)).tensor_split(world)[rank]
        chunks = [batch.x[rows].to(method.device) for rows in share.split(data.eval_batch_size)]
        embedded = torch.cat([method.embed(chunk).float().cpu() for chunk in chunks if len(chunk)] or [torch.empty(0)])
        return self.rows_of_all(embedded), batch.y

    def compare(
        self, train: Tensor, labels: Tensor, queries: Tensor, answers: Tensor, classes: int
    ) -> dict[str, float]:
        """The figures, from embeddings (N, D) and classes (N,) to learn from, (M, D) and (M,) to judge by."""
        if not (train.isfinite().all() and queries.isfinite().all()):
            return {"linear_probe": math.nan, "knn": math.nan}
        nearest = knn_predict(train, labels, queries, classes=classes, k=self.k, temperature=self.temperature)
        return {
            "linear_probe": linear_probe(train, labels, queries, answers),
            "knn": float((nearest == answers).double().mean()),
        }


def linear_probe(train: Tensor, labels: Tensor, queries: Tensor, answers: Tensor) -> float:
    """Accuracy of logistic regression on standardised embeddings; NaN if the training records have one class only."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(labels.unique()) < 2:
        return math.nan
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    with warnings.catch_warnings():
        # After 1000 iterations the accuracy has long settled; a constant feature is no fault of the reader.
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe.fit(train.double().numpy(), labels.numpy())
    return float(probe.score(queries.double().numpy(), answers.numpy()))
