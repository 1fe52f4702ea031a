"""A change of the field that changes no law: the gauge freedom of diffusion models."""

from __future__ import annotations

import torch
from torch import Tensor

from modules.generative.gaussian.field import Field
from modules.generative.gaussian.targets import score_of
from modules.generative.guidance.base import Conditional, Guidance
from modules.generative.guidance.classifier import tweedie


class Gauge(Guidance):
    """score + strength A score, with A the quarter turn of each pair of components.

    A field r may be added to the score without changing any p_t, in the probability flow as in the reverse SDE, if

        div(p_t r) = 0,   that is   r . grad ln p_t + div r = 0

    For an antisymmetric A that is so of r = A grad ln p_t whatever p_t is: its product with the score vanishes, and its
    divergence is the trace of A times a Hessian, 0 too. The sum is no gradient: a field need not be conservative to
    sample, or to give densities, exactly. Draws of one noise differ, and so does what the flow says of a neighbourhood.

    Horvat and Pfister 2024, "On gauge freedom, conservativity and intrinsic dimensionality estimation in diffusion
    models"; the condition is theirs, this r is ours.

    Args:
        strength: of the turn.
    """

    papers = ("horvat2024gauge",)

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = strength

    def field(self, model: Conditional, y: Tensor | None) -> Field:
        def gauged(x: Tensor, t: Tensor) -> Tensor:
            data = model.denoise(x, t, y)
            return data + self.strength * tweedie(turned(score_of(data, x, t, model.path)), t, model.path)

        return Field(model.path, gauged)


def turned(x: Tensor) -> Tensor:
    """Components (a, b, c, d, ...) of records (B, ...) -> (-b, a, -d, c, ...); 0 for one without a partner."""
    flat = x.flatten(1)
    pairs = flat[:, : flat.shape[1] // 2 * 2].unflatten(1, (-1, 2))
    turn = torch.stack([-pairs[..., 1], pairs[..., 0]], -1).flatten(1)
    return torch.nn.functional.pad(turn, (0, flat.shape[1] % 2)).view_as(x)
