"""A classifier beside classifiers of concepts: what a reasoner has to reason about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.method import Method
from modules.networks.stacked import Stacked


class ConceptClassifier(Method):
    """A main network for the class, and for each concept one network that says whether a record has it.

        loss = mean_i -ln softmax(f(x_i + e_i))_y_i + sum_l mean_i BCE(sigmoid(f_l(x_i + e_i)), T_y_i,l)

    T (C, L) says which class has which concept, and e is Gaussian noise, as randomised smoothing needs it (Cohen et al.
    2019). Networks share nothing: each learns as it would alone. Those of concepts are one batched network.

    Kang et al. 2024: the learning component. Deviation: the main model is one softmax, where the authors have a binary
    network for each class.

    Args:
        spec: labelled data with at least two classes.
        concepts: name of a concept -> the names of the classes that have it.
        noise: standard deviation of e, in the units of what the network reads; at least 0.
        parts: `net` (a config: each network is built from it), `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: no concept, a class that there is not, a concept of all classes or of none, a negative noise.
    """

    batch_type = Labelled
    targets = ("class",)
    papers = ("kang2024colep",)

    table: Tensor

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        concepts: Mapping[str, Sequence[Any]],
        noise: float = 0.25,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if noise < 0:
            raise UserError(f"model.noise={noise}: at least 0.")
        self.noise = noise
        self.register_buffer("table", truth_table(concepts, self.spec.classes), persistent=False)
        self.net = self.build(self.spec.shape, (len(self.spec.classes),))
        self.concepts = Stacked([self.build(self.spec.shape, (1,)) for _ in concepts])

    def loss(self, batch: Labelled) -> dict[str, Tensor]:
        x = batch.x + self.noise * torch.randn_like(batch.x)
        has = self.table[batch.y].T.to(x.dtype)
        concepts = F.binary_cross_entropy_with_logits(self.concepts(x).squeeze(2), has, reduction="none")
        return {"class": F.cross_entropy(self.net(x), batch.y), "concepts": concepts.mean(1).sum()}

    def predict_log_proba(self, x: Tensor) -> Tensor:
        """x (B, ...) -> log probabilities of the main network (B, classes)."""
        return self.net(x).float().log_softmax(1)

    def predict_concepts(self, x: Tensor) -> Tensor:
        """x (B, ...) -> probabilities of the concepts (B, concepts), and their table is `table`."""
        return self.concepts(x).squeeze(2).T.float().sigmoid()

    def embed(self, x: Tensor) -> Tensor:
        """x (B, ...) -> the main network's features (B, D)."""
        return self.net.embed(x)


def truth_table(concepts: Mapping[str, Sequence[Any]], classes: Sequence[str]) -> Tensor:
    """Which class has which concept: bool (classes, concepts).

    Raises:
        UserError: no concept, a class that there is not, a concept of all classes or of none.
    """
    if not concepts:
        raise UserError("model.concepts is empty: there is nothing to reason about.", "model.concepts.NAME=[CLASS,...]")
    having = {name: {str(one) for one in owners} for name, owners in concepts.items()}
    for name, owners in having.items():
        unknown = sorted(owners - set(classes))
        if unknown:
            raise UserError(
                f"model.concepts.{name}: there is no class '{unknown[0]}'.", f"there are: {', '.join(classes)}"
            )
        if len(owners) in (0, len(classes)):
            raise UserError(f"model.concepts.{name}: all classes have it or none does, so that it tells none apart.")
    return torch.tensor([[one in owners for owners in having.values()] for one in classes])
