"""Classifiers whose network is noisy: Monte Carlo dropout, concrete dropout, batch ensembles."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from compendium.config import instantiate
from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.networks.stochastic import Noise, local_penalty, passes, penalty
from modules.uncertainty.members import MembersClassifier


class StochasticClassifier(MembersClassifier):
    """A network with noise q(theta) in its layers, and the mean of its predictions over draws of the noise.

        loss = mean_i E_q[-ln softmax(f(x_i; theta))_y_i] + KL(q | prior) / N
        p(y|x) = mean_k softmax(f(x; theta_k))_y,    theta_k from q

    The expectation is taken at one draw per record, or at one per member of a batch ensemble. The divergence is that of
    the noise (`modules.networks.stochastic`), 0 where it has none. N is the number of training records. Which noise is
    an axis, `noise=`: `dropout` is Monte Carlo dropout (Gal and Ghahramani 2016), `concrete_dropout` (Gal et al. 2017),
    `batch_ensemble` (Wen et al. 2020). Where noise has a law of its own for each record, such as that of
    `contextual_dropout` (Fan et al. 2021), its divergence counts per record.

    Args:
        spec: labelled data with at least two classes.
        noise: config of a `modules.networks.stochastic.Noise`.
        passes: draws per prediction, rounded up to a multiple of the members. 16, where Gal and Ghahramani take 10 to
            1000: the mean then errs by a quarter of the spread.
        parts: `net`, `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: no classes, fewer than one pass.
    """

    batch_type = Labelled
    targets = ("class",)
    otherwise = "for a real target: model=uncertainty/regression_ensemble"

    def __init__(
        self, spec: DataSpec | Mapping[str, Any], noise: Mapping[str, Any], passes: int = 16, **parts: Any
    ) -> None:
        super().__init__(spec, **parts)
        if passes < 1:
            raise UserError(f"model.passes={passes}: there is at least one.")
        self.noise: Noise = instantiate(noise, where="model.noise")
        self.net = self.build(self.spec.shape, (len(self.spec.classes),))
        self.noise.attach(self.net)
        self.draws = self.noise.members * math.ceil(passes / self.noise.members)

    def loss(self, batch: Labelled) -> dict[str, Tensor]:
        count = self.noise.members
        logits = passes(self.net, batch.x, count)
        nll = F.cross_entropy(logits.flatten(0, 1), batch.y.expand(count, -1).flatten())
        divergence = penalty(self.net).to(nll) / max(1, self.spec.sizes["train"]) + local_penalty(self.net)
        return {"cross_entropy": nll, "divergence": divergence}

    def predict_members(self, x: Tensor) -> Tensor:
        """x (B, ...) -> log probabilities at each draw (K, B, classes), from torch's global random state."""
        return passes(self.net, x, self.draws).float().log_softmax(2)
