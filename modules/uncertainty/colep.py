"""COLEP: conformal sets of a classifier that reasons with classifiers of concepts, certified against attacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.spec import DataSpec
from modules.capabilities import ConceptPredictor
from modules.uncertainty.concept_classifier import ConceptClassifier
from modules.uncertainty.reasoning import posterior, posterior_bounds
from modules.uncertainty.smoothed_conformal import SmoothedConformal


class Colep(SmoothedConformal):
    """Smoothed conformal sets of the class's posterior given what main model and concept models say.

        P(y) prop p_y prod_l (1 + (e^w - 1) q_yl)

    with p and q smoothed one by one, and their intervals under attack carried through the circuit of
    `modules.uncertainty.reasoning` to the least and the greatest posterior. With w = 0 it is `SmoothedConformal`, sets,
    certificates and all.

    Kang et al. 2024: the learning-reasoning pipeline (section 4), the propagation of intervals (theorem 1), robust sets
    (theorem 2), certified coverage of plain sets (theorem 3) and its version for finite calibration sets. The theorems
    were read in the authors' code (`knowledge_probabilistic_circuit/knwoledge_pc.py`, `conformal_knowledge_pc_*.py`)
    and in summaries, not in the paper.
    Deviations: 1. Classes exclude each other, so that the circuit has C assignments of them and not 2^C, and the main
    model is one softmax. 2. Rules say of each class which concepts it has and which it lacks; theirs say the former.
    3. One circuit with one weight holds all rules; they average several, and mix in the main model's own probability.
    4. The bounds are those of corners, with the sum of the classes' probabilities kept at 1: tighter than bounding
    numerator and denominator apart. 5. Scores are 1 - P_y with quantiles by class over the records of that class, where
    they have aps of a binary problem for each class, and a union bound in certification. 6. The bound for finite
    calibration sets is one of probability; theirs is of the mean over calibration sets.

    Args:
        spec: records held out of the models' training: `datamodule=held_out`.
        weight: w of each rule, at least 0.
        by_class: a quantile for each class, as in the paper.
        parts: `model` (a `ConceptPredictor`), and those of `SmoothedConformal`.

    Raises:
        UserError: a negative weight, a model without concepts; see `SmoothedConformal`.
    """

    papers = ("kang2024colep",)
    capability = ConceptPredictor

    def __init__(
        self, spec: DataSpec | Mapping[str, Any], weight: float = 2.0, by_class: bool = True, **parts: Any
    ) -> None:
        super().__init__(spec, by_class=by_class, **parts)
        if weight < 0:
            raise UserError(f"model.weight={weight}: at least 0.")
        self.weight = weight

    def outputs(self) -> int:
        return sum(self.predictor.table.shape)

    def answers(self, x: Tensor) -> Tensor:
        return torch.cat([super().answers(x), self.asked.predict_concepts(x)], 1)

    def concluded(self, answers: Tensor) -> Tensor:
        p, q = self.parted(answers)
        return posterior(p, q, self.predictor.table, self.weight)

    def concluded_bounds(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        (p_low, q_low), (p_high, q_high) = self.parted(low), self.parted(high)
        return posterior_bounds((p_low, p_high), (q_low, q_high), self.predictor.table, self.weight)

    def parted(self, answers: Tensor) -> tuple[Tensor, Tensor]:
        """Answers (..., C + L) -> those of the classes (..., C) and of the concepts (..., L)."""
        classes = len(self.spec.classes)
        return answers[..., :classes], answers[..., classes:]

    def opened(self, model: str | Mapping[str, Any] | None) -> tuple[Any, dict[str, Any] | None]:
        """See `Trained`. The untrained one has the binary digits of the classes' numbers as concepts."""
        if model is not None:
            return super().opened(model)
        classes = self.spec.classes
        digits = range((len(classes) - 1).bit_length())
        concepts = {f"digit_{d}": [one for i, one in enumerate(classes) if i >> d & 1] for d in digits}
        return ConceptClassifier(self.spec, concepts, net=self._net), None
