"""Integrators that know nothing of phase space: the baselines."""

from __future__ import annotations

import torch
from torch import Tensor

from modules.generative.gaussian.phase_space import PhaseField, acted
from modules.generative.integrators.base import Integrator


class Euler(Integrator):
    """Euler's method for dz / dt = F z - G G' score / 2, the probability flow, or with noise, Euler and Maruyama's, for

        dz = (F z - G G' score) dt + G dW     backwards in time.

    Args:
        noise: the second instead of the first.
    """

    def __init__(self, noise: bool = False) -> None:
        self.noise = noise

    def step(self, field: PhaseField, z: Tensor, s: Tensor, t: Tensor) -> Tensor:
        squared = field.space.diffusion
        share = 1.0 if self.noise else 0.5
        moved = z + (t - s) * (acted(field.space.drift, z) - share * acted(squared, field.score(z, s)))
        return moved + acted((squared * (s - t)).sqrt(), torch.randn_like(z)) if self.noise else moved


class Adaptive(Integrator):
    """The probability flow by an adaptive solver of torchdiffeq.

    Args:
        method: Default `dopri5`, Dormand and Prince's pair of orders 5 and 4 (RK45).
        rtol: relative tolerance.
        atol: absolute tolerance.
    """

    order = None

    def __init__(self, method: str = "dopri5", rtol: float = 1e-5, atol: float = 1e-5) -> None:
        self.method, self.rtol, self.atol = method, rtol, atol

    def step(self, field: PhaseField, z: Tensor, s: Tensor, t: Tensor) -> Tensor:
        from torchdiffeq import odeint

        space = field.space

        def flow(time: Tensor, y: Tensor) -> Tensor:
            # The solver steps past the end and comes back by interpolation.
            return acted(space.drift, y) - 0.5 * acted(space.diffusion, field.score(y, time.clamp_min(t)))

        return odeint(flow, z, torch.stack([s, t]), method=self.method, rtol=self.rtol, atol=self.atol)[-1]

    def sample(self, field: PhaseField, z: Tensor, times: Tensor) -> Tensor:
        return super().sample(field, z, times[[0, -1]])


class SymmetricSplitting(Integrator):
    """SSCS: half a step of an Ornstein-Uhlenbeck process, a step of the rest by Euler, half a step again.

    Backwards in time the drift is -F z + G G' score. Its part -F z - G G' S^-1 z with the noise keeps the stationary
    covariance S and is solved exactly; what is left is G G' (score + S^-1 z).

    Dockhorn et al. 2022, "Score-Based Generative Modeling with Critically-Damped Langevin Diffusion", as adapted to
    PSLD in the code of Pandey et al. 2024.
    """

    order = None

    def step(self, field: PhaseField, z: Tensor, s: Tensor, t: Tensor) -> Tensor:
        space, h = field.space, s - t
        rest, squared = space.stationary, space.diffusion
        inverse = torch.linalg.inv(rest)
        move = torch.linalg.matrix_exp(-h / 2 * (space.drift + squared @ inverse))
        spread = torch.linalg.cholesky(rest - move @ rest @ move.T)

        def half(z: Tensor) -> Tensor:
            return acted(move, z) + acted(spread, torch.randn_like(z))

        z = half(z)
        return half(z + h * acted(squared, field.score(z, s) + acted(inverse, z)))
