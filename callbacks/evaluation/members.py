"""How far the members of an ensemble of classifiers differ."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from callbacks.evaluation.base import Evaluation, mean_of
from callbacks.evaluation.selective import entropy
from callbacks.metrics.precision import precise
from datamodules.batches import Labelled
from modules.capabilities import EnsembleClassifier
from modules.uncertainty.members import mixture


class Members(Evaluation):
    """Figures of the members of an EnsembleClassifier on Labelled batches with a class as target.

    - `member_accuracy`, `member_nll`: mean over members of the share of records whose class is likeliest, and of -ln p.
    - `disagreement`: mean over pairs of different members of the share of records whose likeliest classes differ; 0 for
      a single one.
    - `mutual_information`: mean of H(mean_k p_k) - mean_k H(p_k), in nats.

    The mean of a member's NLL is never below the ensemble's, by Jensen's inequality.

    Args:
        parts: the arguments of `Evaluation`.
    """

    capabilities = (EnsembleClassifier,)
    batch_type = Labelled
    stages = ("test",)

    def misfit(self, method, spec):
        return None if spec.target == "class" else "the target is no class"

    def start(self, method, data) -> None:
        self.means = {
            name: mean_of(method) for name in ("member_accuracy", "member_nll", "disagreement", "mutual_information")
        }

    def update(self, method, batch) -> None:
        members = precise(self.ask(method, "predict_members", batch.x))
        y = batch.y.to(members.device)
        count = len(members)
        top = members.argmax(2)
        votes = torch.nn.functional.one_hot(top, members.shape[2]).sum(0).double()
        agreeing = (votes.square().sum(1) - count) / max(1, count * (count - 1))
        figures = {
            "member_accuracy": (top == y).double().mean(0),
            "member_nll": -members.gather(2, y.expand(count, -1)[..., None]).squeeze(2).mean(0),
            "disagreement": 1 - agreeing if count > 1 else torch.zeros_like(agreeing),
            "mutual_information": entropy(mixture(members)) - entropy(members).mean(0),
        }
        for name, values in figures.items():
            self.means[name].update(values)

    def compute(self, method, data) -> Mapping[str, float]:
        return {name: float(mean.compute()) for name, mean in self.means.items()}
