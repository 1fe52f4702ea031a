"""Guidance by the gradient of a classifier of noisy records."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from compendium.errors import UserError
from modules.generative.gaussian.checkpoints import check_path, opened
from modules.generative.gaussian.field import Field
from modules.generative.gaussian.paths import Path, along
from modules.generative.guidance.base import Conditional, Guidance


class NoisyClasses(Protocol):
    """Class probabilities of a noisy record."""

    path: Path

    @property
    def known(self) -> int:
        """Number of classes."""
        ...

    def log_proba_at(self, x: Tensor, t: Tensor) -> Tensor:
        """x_t (B, ...), t (B,) -> ln p(y | x_t) (B, classes)."""
        ...


class ClassifierGuidance(Guidance):
    """score(x_t) + scale grad ln p(y | x_t), with a classifier that was trained on noisy records.

    In terms of the data, D = E[x_0 | x_t] + scale (sigma^2 / alpha) grad ln p(y | x_t). By Bayes' rule scale 1 is the
    conditional model, wherever the classifier is exact; above 1 the class is exaggerated.

    Dhariwal and Nichol 2021, "Diffusion Models Beat GANs on Image Synthesis", Algorithm 2; with a stochastic sampler it
    takes the place of Algorithm 1, which moves the mean by the same gradient, taken at another point.

    Args:
        classifier: checkpoint of `model=generative/noisy_classifier`, on the same path. None: the model's own, where it
            has one, as `model=generative/minority_diffusion` has.
        scale: of the gradient. Default 1, the conditional model; the paper takes 1 to 10.
        label: the one class of all draws, for models without classes; negative counts from the last. None: those that
            the model asks for.
        conditional: whether the model is told the class as well, as the paper's conditional models are.

    Raises:
        UserError: no classifier, no class, one that the classifier does not know, another path.
    """

    def __init__(
        self, classifier: str | None = None, scale: float = 1.0, label: int | None = None, conditional: bool = False
    ) -> None:
        self.classifier, self.scale, self.label, self.conditional = classifier, scale, label, conditional

    def field(self, model: Conditional, y: Tensor | None) -> Field:
        judge: Any = model if self.classifier is None else opened(self.classifier)
        if not hasattr(judge, "log_proba_at"):
            raise UserError(
                f"guidance.classifier={self.classifier} gives no class probabilities of noisy records.",
                "give a checkpoint of model=generative/noisy_classifier",
            )
        check_path(judge.path, model.path, f"guidance.classifier={self.classifier}")
        known = judge.known
        if self.label is None and y is None:
            raise UserError(
                "guidance=classifier goes towards a class, and this model has none.", "choose one with guidance.label="
            )
        if self.label is not None and not -known <= self.label < known:
            raise UserError(f"guidance.label={self.label}: the classifier knows {known} classes.")
        told = y if self.conditional else None
        if self.label is not None:
            y = torch.tensor(self.label % known)
        assert y is not None
        return Classified(model, judge, y, self.scale, told)


class Classified(Field):
    """The field of `ClassifierGuidance`: one evaluation of the model and one, with its gradient, of the classifier.

    Args:
        model: whose field is guided.
        judge: a classifier, moved where and as precise as the records are.
        y: classes int64 (B,), or a single one ().
        scale: of the gradient.
        told: classes that the model is told of (B,); None for any.
    """

    cost = 2

    def __init__(
        self, model: Conditional, judge: NoisyClasses, y: Tensor, scale: float, told: Tensor | None = None
    ) -> None:
        super().__init__(model.path, self.guided)
        self.model, self.judge, self.y, self.scale, self.told = model, judge, y, scale, told

    def guided(self, x: Tensor, t: Tensor) -> Tensor:
        """E[x_0 | x_t] (B, ...), moved by the classifier, for t (B,)."""
        data = self.model.denoise(x, t, self.told)
        if not self.scale:
            return data
        return data + self.scale * tweedie(self.slope(x, t), t, self.path)

    def slope(self, x: Tensor, t: Tensor) -> Tensor:
        """grad ln p(y | x_t) (B, ...)."""
        if isinstance(self.judge, torch.nn.Module) and self.judge is not self.model:
            self.judge.to(device=x.device, dtype=x.dtype)
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            log_proba = self.judge.log_proba_at(x, t)
            chosen = log_proba.gather(1, self.y.to(x.device).expand(len(x))[:, None])
            return torch.autograd.grad(chosen.sum(), x)[0]


def tweedie(slope: Tensor, t: Tensor, path: Path) -> Tensor:
    """What a change of the score by `slope` (B, ...) changes E[x_0 | x_t] by: sigma^2 / alpha slope, for t (B,)."""
    return along(path.sigma(t).square() / path.alpha(t), slope) * slope
