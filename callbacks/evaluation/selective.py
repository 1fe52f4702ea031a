"""What a classifier's uncertainty is worth: which of its answers are wrong, and what is won by leaving some out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from callbacks.evaluation.base import Evaluation
from callbacks.metrics.detection import aurc, risk_coverage, separation
from callbacks.metrics.precision import precise
from callbacks.pictures import DPI, INK, save
from datamodules.batches import Labelled
from modules.capabilities import Classifier, EnsembleClassifier, Uncertain

SCORES = ("confidence", "entropy", "mutual_information", "uncertainty")


class Selective(Evaluation):
    """Figures of a Classifier that may leave its most uncertain answers out.

    - `aurc`: area under the risk-coverage curve, the mean over k of the error of the k most confident answers (Geifman
      et al. 2019), and `eaurc`, what it is above the least that so many errors allow.
    - `error_auroc`, `error_aupr`, `error_fpr95`: how well 1 - highest probability tells wrong answers from right ones
      (Hendrycks and Gimpel 2017); NaN where all answers are right.
    - the same with `_entropy`, of the probabilities' entropy; with `_mutual_information` where the method has members,
      the entropy of the mean minus the mean entropy; with `_uncertainty` where it has a score of its own.
    - `accuracy_at_90`: of the 90% of the answers of highest probability.

    Process 0 computes, and writes `risk_coverage.png` into the run folder.

    Args:
        parts: the arguments of `Evaluation`.
    """

    capabilities = (Classifier,)
    batch_type = Labelled
    stages = ("test",)

    def misfit(self, method, spec):
        return None if spec.target == "class" else "the target is no class"

    def start(self, method, data) -> None:
        self.scores: list[Tensor] = [torch.empty(0, 1 + len(SCORES), dtype=torch.float64)]

    def update(self, method, batch) -> None:
        log_proba = precise(self.ask(method, "predict_log_proba", batch.x))
        wrong = (log_proba.argmax(1) != batch.y.to(log_proba.device)).double()
        columns = scores(method, batch.x, log_proba)
        missing = torch.zeros_like(wrong)
        rows = torch.stack([wrong, *(columns.get(name, missing) for name in SCORES)], 1)
        self.scores.append(rows.double().cpu())
        self.names = tuple(columns)

    def compute(self, method, data) -> Mapping[str, float]:
        rows = self.rows_of_all(torch.cat(self.scores))
        return self.on_rank_zero(lambda: self.figures_of(rows, known(method), data))

    def figures_of(self, rows: Tensor, names: tuple[str, ...], data: Any) -> dict[str, float]:
        """The figures, and the picture."""
        wrong = rows[:, 0]
        figures = {}
        for name in names:
            score = rows[:, 1 + SCORES.index(name)]
            ending = "" if name == "confidence" else f"_{name}"
            told = separation(score, wrong > 0)
            figures |= {f"error_{figure}{ending}": value for figure, value in told.items()}
            undefined = not len(wrong) or bool(score.isnan().any())
            figures[f"aurc{ending}"] = math.nan if undefined else aurc(score, wrong)
        confidence = rows[:, 1]
        if math.isnan(figures["aurc"]):
            return figures | {"eaurc": math.nan, "accuracy_at_90": math.nan}
        curve = risk_coverage(confidence, wrong)
        figures["eaurc"] = figures["aurc"] - aurc(wrong, wrong)
        figures["accuracy_at_90"] = 1 - float(curve[max(1, round(0.9 * len(curve))) - 1])
        save(picture(curve, f"{data.spec.name}: risk and coverage ({self.split} split)"),
             Path(data.trainer.default_root_dir) / "risk_coverage.png")  # fmt: skip
        return figures


def known(method: Any) -> tuple[str, ...]:
    """The scores that a method has."""
    members = ("mutual_information",) if isinstance(method, EnsembleClassifier) else ()
    own = ("uncertainty",) if isinstance(method, Uncertain) else ()
    return ("confidence", "entropy", *members, *own)


def scores(method: Any, x: Tensor, log_proba: Tensor) -> dict[str, Tensor]:
    """The scores of records x (B, ...) with log probabilities (B, classes): (B,) each, larger where less is known."""
    found = {"confidence": -log_proba.max(1).values.exp(), "entropy": entropy(log_proba)}
    if isinstance(method, EnsembleClassifier):
        members = precise(Selective.ask(method, "predict_members", x))
        found["mutual_information"] = entropy(log_proba) - entropy(members).mean(0)
    if isinstance(method, Uncertain):
        found["uncertainty"] = precise(Selective.ask(method, "uncertainty", x))
    return found


def entropy(log_proba: Tensor) -> Tensor:
    """Log probabilities (..., classes) -> entropies (...), nats; a class of probability 0 adds nothing."""
    return -torch.where(log_proba > -torch.inf, log_proba.exp() * log_proba, 0).sum(-1)


def picture(curve: Tensor, title: str) -> Any:
    """The error of the most confident answers against how many they are."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(4.8, 3.4), dpi=DPI, layout=ConstrainedLayoutEngine())
    axis = figure.subplots()
    coverage = torch.arange(1, len(curve) + 1) / len(curve)
    axis.plot(coverage.numpy(), curve.numpy(), color=INK)
    axis.set(xlim=(0, 1), ylim=(0, None), xlabel="share of the answers given, by confidence", ylabel="error")
    axis.grid(alpha=0.25, linewidth=0.5)
    axis.set_title(title, fontsize=10.5)
    return figure
