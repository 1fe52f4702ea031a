"""Phase-space Langevin diffusion: data and a momentum each, noised together."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from compendium.errors import UserError


class PhaseSpace:
    """The linear process of states z = (x, m), a row of position and a row of momentum, with I_d for components:

        dz = F z dt + G dW,   F = beta / 2 [[-gamma, 1 / M], [-1, -nu]],   G G' = beta diag(gamma, M nu)

    with M = 4 / (gamma - nu)^2, critical damping. F then has one eigenvalue, -beta (gamma + nu) / 4, twice, and

        exp(F t) = e^(-beta (gamma + nu) t / 4) (I + beta t / 2 [[(nu - gamma) / 2, 1 / M], [-1, (gamma - nu) / 2]])

    and what starts with the covariance C has S + exp(F t) (C - S) exp(F t)' at t, with S = diag(1, M), the stationary
    one. Given x_0 and m_0 ~ N(0, spread M I), z_t = exp(F t) (x_0, 0) + L eps, where L is the lower Cholesky factor.

    Pandey and Mandt 2023, "A Complete Recipe for Diffusion Generative Models" (PSLD), and the authors' code.

    Args:
        gamma: friction of the position. Default 0.01, the authors' for CIFAR-10.
        nu: friction of the momentum. Default 4.01, there.
        rate: beta, constant. Default 8, there.
        spread: of the momentum at t = 0, in units of M. Default 0.04, there.
        start: the smallest time that anything is evaluated at.
        end: the time at which sampling starts.

    Raises:
        UserError: a negative friction, equal ones, no rate or no spread.
    """

    def __init__(
        self,
        gamma: float = 0.01,
        nu: float = 4.01,
        rate: float = 8.0,
        spread: float = 0.04,
        start: float = 1e-3,
        end: float = 1.0,
    ) -> None:
        if min(gamma, nu) < 0 or gamma == nu:
            raise UserError(f"model.gamma={gamma} model.nu={nu}: frictions of at least 0, and not the same.")
        if rate <= 0 or spread <= 0:
            raise UserError(f"model.rate={rate} model.spread={spread}: both are above 0.")
        self.mass = 4 / (gamma - nu) ** 2
        self.rate, self.spread, self.start, self.end = rate, spread, start, end
        self.friction = torch.tensor([gamma, nu], dtype=torch.float64)
        self.stationary = torch.diag(torch.tensor([1, self.mass], dtype=torch.float64))
        self.drift = rate / 2 * torch.tensor([[-gamma, 1 / self.mass], [-1, -nu]], dtype=torch.float64)
        self.diffusion = rate * self.stationary @ torch.diag(self.friction)

    def transition(self, t: Tensor) -> Tensor:
        """exp(F t) (..., 2, 2), float64, at times t (...)."""
        t, mean = t.double()[..., None, None], self.drift.trace() / 2
        one = torch.eye(2, dtype=torch.float64)
        return (mean * t).exp() * (one + t * (self.drift - mean * one).to(t))

    def covariance(self, t: Tensor, start: Tensor) -> Tensor:
        """Covariance (..., 2, 2) at times t (...) of what has the covariance `start` (..., 2, 2) at t = 0."""
        move, rest = self.transition(t), self.stationary.to(t.device)
        return rest + move @ (start.double() - rest) @ move.mT

    def factor(self, t: Tensor) -> Tensor:
        """L (..., 2, 2) of the noise at times t (...)."""
        start = torch.diag(torch.tensor([0, self.spread * self.mass], dtype=torch.float64, device=t.device))
        return torch.linalg.cholesky(self.covariance(t, start))

    def whitening(self, t: Tensor) -> Tensor:
        """L^-T (..., 2, 2): the score of z_t is -L^-T eps."""
        return torch.linalg.inv(self.factor(t)).mT

    def noised(self, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """z_t (B, 2, ...) of records x (B, ...) and eps (B, 2, ...) at times t (B,)."""
        start = torch.stack([x, torch.zeros_like(x)], 1)
        return acted(self.transition(t), start) + acted(self.factor(t), noise)

    def prior(self, n: int, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """n draws (n, 2, *shape) of the stationary law."""
        return acted(self.stationary.sqrt(), torch.randn(n, 2, *shape, device=like.device, dtype=like.dtype))


class PhaseField:
    """What an integrator sees of a model.

    Args:
        space: the process.
        predict: z (B, 2, ...), t (B,) -> E[eps | z_t = z] (B, 2, ...).

    Attributes:
        calls: how many network evaluations of a whole batch were made so far.
    """

    def __init__(self, space: PhaseSpace, predict: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.space, self.predict, self.calls = space, predict, 0

    def noise(self, z: Tensor, t: Tensor) -> Tensor:
        """E[eps | z_t = z] (B, 2, ...), at one time t."""
        self.calls += 1
        return self.predict(z, t.to(z).expand(len(z)))

    def score(self, z: Tensor, t: Tensor) -> Tensor:
        """Gradient of the log density of z_t (B, 2, ...)."""
        return -acted(self.space.whitening(t), self.noise(z, t))

    def position(self, z: Tensor, t: Tensor) -> Tensor:
        """E[x_0 | z_t = z] (B, ...)."""
        clean = z - acted(self.space.factor(t), self.noise(z, t))
        return acted(torch.linalg.inv(self.space.transition(t)), clean)[:, 0]


class PhaseMixture:
    """E[eps | z_t] in closed form, for data that are a mixture of isotropic Gaussians: with momenta they stay one.

    Args:
        space: the process.
        means: (K, D).
        stds: (K,).
        weights: (K,), normalized here.
    """

    def __init__(self, space: PhaseSpace, means: Tensor, stds: Tensor, weights: Tensor) -> None:
        self.space, self.means = space, means.double()
        self.starts = torch.diag_embed(
            torch.stack([stds.double() ** 2, torch.full_like(stds.double(), space.spread * space.mass)], 1)
        )
        self.log_weights = (weights.double() / weights.double().sum()).log()

    def score(self, z: Tensor, t: Tensor) -> Tensor:
        """Gradient of the log density of z_t (B, 2, D), of z (B, 2, D) at one time t (B,)."""
        t = t[0].double().cpu()
        covariance = self.space.covariance(t, self.starts)  # (K, 2, 2)
        means = self.space.transition(t)[:, :1] * self.means[:, None]  # (K, 2, D)
        offset = z.double()[:, None] - means.to(z.device)
        pull = torch.einsum("kij,bkjd->bkid", torch.linalg.inv(covariance).to(z.device), offset)
        volume = self.log_weights - 0.5 * z.shape[2] * covariance.logdet()
        share = (volume.to(z.device) - 0.5 * (offset * pull).sum((2, 3))).softmax(1)
        return -torch.einsum("bk,bkid->bid", share, pull).to(z.dtype)

    def predict(self, z: Tensor, t: Tensor) -> Tensor:
        """E[eps | z_t = z] (B, 2, D)."""
        return -acted(self.space.factor(t[0]).mT, self.score(z, t))


def acted(matrix: Tensor, z: Tensor) -> Tensor:
    """A matrix (2, 2), or one per record (B, 2, 2), on the position and momentum of z (B, 2, ...)."""
    return torch.einsum("...ij,...jd->...id", matrix.to(z), z.flatten(2)).view_as(z)
