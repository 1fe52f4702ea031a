"""Classifiers that learn from the difference of two teachers."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from compendium.config import instantiate
from compendium.errors import UserError
from datamodules.batches import Labelled, TeacherPairs
from datamodules.spec import DataSpec
from modules.preference.objectives.base import Objective, Pairs
from modules.supervised.classifier import SoftmaxClassifier


class DeltaLearning(SoftmaxClassifier):
    """A student that goes on from a reference by an objective of preferences between classes (Geng et al. 2025).

    The class that the better teacher names is the chosen answer, that of the worse one the rejected answer, and classes
    have ln pi = ln softmax(net(x)). Where teachers agree, an objective of the difference says nothing. For logistic
    regression and records x ~ N(0, I) the descent begins along u_chosen - u_rejected, the difference of the teachers'
    directions, which has a part along the truth if the chosen teacher is the better one, whereas the rest of it is
    all but orthogonal to the student's own error where there are many dimensions. So two teachers that are worse than
    the student can make it better; the chosen ones alone make it like their teacher.

    From the paper's abstract and section titles, and for the theory from memory; its own proof has a loss that is the
    difference of two cross-entropies, and here any `objective=` does, DPO's as in its experiments on language.

    Args:
        spec: records with a class.
        objective: config of a `modules.preference.objectives.base.Objective`, `objective=`.
        model: checkpoint of a `SoftmaxClassifier`, the reference and the start; None: the network as it begins.
        parts: the arguments of `SoftmaxClassifier`.

    Raises:
        UserError: a checkpoint of other records or classes, an objective of more than ln pi and ln pi_ref.
    """

    batch_type = TeacherPairs  # type: ignore[assignment]
    kinds = ("vector",)
    otherwise = ""
    papers = ("geng2025delta",)

    def __init__(
        self, spec: DataSpec | Mapping[str, Any], objective: Mapping[str, Any], model: str | None = None, **parts: Any
    ) -> None:
        super().__init__(spec, **parts)
        self.objective: Objective = instantiate(objective, where="model.objective")
        if model is not None:
            begun = SoftmaxClassifier.load_from_checkpoint(model)
            own, other = self.net.state_dict(), begun.net.state_dict()
            if {name: value.shape for name, value in own.items()} != {n: v.shape for n, v in other.items()}:
                raise UserError(f"model.model={model} has another network.", "choose net= and data= as it was trained")
            self.net.load_state_dict(other)
            self.hparams["model"] = None  # its weights lie in this checkpoint, which opens without the other one
        self.reference = deepcopy(self.net).requires_grad_(False)

    def loss(self, batch: TeacherPairs | Labelled) -> Tensor | dict[str, Tensor]:  # type: ignore[override]
        assert isinstance(batch, TeacherPairs)
        named = torch.stack([batch.chosen, batch.rejected], 1)
        log_pi = self.predict_log_proba(batch.x).gather(1, named)
        with torch.no_grad():
            log_reference = self.reference(batch.x).float().log_softmax(1).gather(1, named)
        one = torch.ones_like(log_pi)
        return self.objective(Pairs(*log_pi.unbind(1), *log_reference.unbind(1), *one.unbind(1)))
