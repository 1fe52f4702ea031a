"""Adaptive projected guidance: classifier-free guidance without its oversaturation."""

from __future__ import annotations

from torch import Tensor

from compendium.errors import UserError
from modules.generative.gaussian.field import Field
from modules.generative.gaussian.paths import along
from modules.generative.guidance.base import Conditional, Guidance, Pair
from modules.generative.guidance.classifier_free import classes_of


class AdaptiveProjected(Guidance):
    """Classifier-free guidance whose update loses most of what is parallel to the prediction.

    With D_c = E[x_0 | x_t, y], D_u = E[x_0 | x_t] and d = D_c - D_u, in each step

        d <- d + momentum d_before            a running sum over steps, with a negative momentum
        d <- d min(1, radius / |d|)           no longer than `radius`
        d = d_parallel + d_orthogonal         along D_c and across it
        D = D_c + (scale - 1) (d_orthogonal + parallel d_parallel)

    The parallel part makes pictures more contrasted, the orthogonal one changes what they show. With momentum 0, no
    radius and parallel 1 it is classifier-free guidance.

    Sadat et al. 2024, "Eliminating Oversaturation and Artifacts of High Guidance Scales in Diffusion Models", section 5
    and Algorithm 1. Deviation: the norms are over a whole record, as there, but of vectors too.

    Args:
        scale: of the guidance.
        parallel: eta, share of the parallel part that is kept. Default 0, there.
        radius: r, longest update, in units of the data; None for no limit. The paper takes 2.5 to 15 for ImageNet.
        momentum: beta, above -1 and at most 0. Default -0.5, there.

    Raises:
        UserError: a radius or a momentum out of range; a model without classes.
    """

    papers = ("sadat2024eliminating",)

    def __init__(
        self, scale: float = 4.0, parallel: float = 0.0, radius: float | None = None, momentum: float = -0.5
    ) -> None:
        if radius is not None and radius <= 0:
            raise UserError(f"guidance.radius={radius}: a length above 0, or null for no limit.")
        if not -1 < momentum <= 0:
            raise UserError(f"guidance.momentum={momentum}: above -1 and at most 0.")
        self.scale, self.parallel, self.radius, self.momentum = scale, parallel, radius, momentum

    def field(self, model: Conditional, y: Tensor | None) -> Field:
        return Projected(model, classes_of(y, "projected"), self)


class Projected(Pair):
    """The field of `AdaptiveProjected`; it remembers the update of the step before."""

    def __init__(self, model: Conditional, y: Tensor, guidance: AdaptiveProjected) -> None:
        super().__init__(model, y)
        self.guidance = guidance
        self.update: Tensor | None = None

    def combine(self, conditional: Tensor, unconditional: Tensor, x: Tensor, t: Tensor) -> Tensor:
        guidance = self.guidance
        update = conditional - unconditional
        if guidance.momentum and self.update is not None:
            update = update + guidance.momentum * self.update
        self.update = update
        if guidance.radius is not None:
            length = update.flatten(1).norm(dim=1)
            update = along((guidance.radius / length).clamp_max(1), x) * update
        aligned = (update * conditional).flatten(1).sum(1) / conditional.flatten(1).square().sum(1)
        parallel = along(aligned, x) * conditional
        return conditional + (guidance.scale - 1) * (update - parallel + guidance.parallel * parallel)
