"""Conjugate integrators: Euler's steps in coordinates in which the flow is easier."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from compendium.errors import UserError
from modules.generative.gaussian.phase_space import PhaseField, PhaseSpace, acted
from modules.generative.integrators.base import Integrator, integral

SHAPES = {"identity": torch.eye(2, dtype=torch.float64), "ones": torch.ones(2, 2, dtype=torch.float64)}


class Conjugate(Integrator):
    """lambda-DDIM: Euler steps of z^ = A_t z, with A_t = exp(int (B - F)) and B = lambda I, or lambda in all places.

        dz^ / dt = A B A^-1 z^ + A G G' L^-T eps / 2,   A = e^((B - F)(u - s)) from the time s on
        z_t = A_t^-1 ((I + (t - s) B) z_s + int_s^t A_u G G' L_u^-T du / 2 eps(z_s, s))

    At lambda = 0 the linear part is exact: the exponential integrator, which on diffusion without momenta is DDIM.

    Pandey et al. 2024, "Efficient Integrators for Diffusion Generative Models", Definition 3.1 and section 3.1.

    Deviation: integrals by Gauss and Legendre's quadrature in place of an adaptive solver.

    Args:
        strength: lambda, per unit of time.
        shape: of B: `identity` (lambda-DDIM-I) or `ones` (lambda-DDIM-II).

    Raises:
        UserError: an unknown shape.
    """

    def __init__(self, strength: float = 0.0, shape: Literal["identity", "ones"] = "identity") -> None:
        self.conjugation = conjugation(strength, shape)

    def step(self, field: PhaseField, z: Tensor, s: Tensor, t: Tensor) -> Tensor:
        space = field.space
        linear, weight = coefficients(space, space.drift, space.diffusion, self.conjugation, s, t)
        return acted(linear, z) + acted(weight, field.noise(z, s))


def conjugation(strength: float, shape: str) -> Tensor:
    """B (2, 2).

    Raises:
        UserError: an unknown shape.
    """
    if shape not in SHAPES:
        raise UserError(f"integrator.shape={shape} is unknown.", f"there are: {', '.join(SHAPES)}")
    return strength * SHAPES[shape]


def coefficients(
    space: PhaseSpace, drift: Tensor, squared: Tensor, b: Tensor, s: Tensor, t: Tensor
) -> tuple[Tensor, Tensor]:
    """What z_s and eps are multiplied by in a conjugate step of dz / dt = drift z + squared L^-T eps / 2, each (2, 2).

    Args:
        space: the process, for L.
        drift: (2, 2).
        squared: (2, 2).
        b: (2, 2).
        s: the time of z.
        t: the next time.
    """

    def map_at(u: Tensor) -> Tensor:
        return torch.linalg.matrix_exp((u - s)[..., None, None] * (b - drift))

    weight = integral(lambda u: map_at(u) @ squared @ space.whitening(u) / 2, s, t)
    back = torch.linalg.inv(map_at(t))
    return back @ (torch.eye(2, dtype=torch.float64) + (t - s) * b), back @ weight
