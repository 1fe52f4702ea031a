"""Splitting integrators: positions and momenta move in turns."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from compendium.errors import UserError
from modules.generative.gaussian.phase_space import PhaseField, PhaseSpace, acted
from modules.generative.integrators.base import Integrator
from modules.generative.integrators.conjugate import coefficients, conjugation

ROWS = {part: torch.tensor(row, dtype=torch.float64)[:, None] for part, row in (("a", [1, 0]), ("b", [0, 1]))}
"""A moves the position, the first row of z, B the momentum."""


class Splitting(Integrator):
    """Solves parts of the reverse process one after another, as integrators of molecular dynamics do:

        A   dx = (c F_xx x + F_xm m + c beta gamma (L^-T eps)_x / 2) dt, with the momentum at rest
        B   dm = (F_mx x + c F_mm m + c beta M nu (L^-T eps)_m / 2) dt, with the position at rest
        O   the Ornstein-Uhlenbeck process backwards in time that keeps N(0, S), exactly

    c is 1 without O, where A and B are the probability flow, and 2 with it, where A + B + O is the reverse SDE.
    `scheme` is the order of the parts in a step, which shares it out among equal ones: `ba` is symplectic Euler, `bab`
    velocity Verlet, `oba` and `bao` are of the SDE.

    A naive scheme asks the network anew for each A and B, at the time of the step's beginning. A reduced one makes A
    and B share an evaluation, and makes a new one, at the time of the step's end, where a part comes again: one for
    `ba` and `oba`, two for `bab`. Each part is moved by Euler, or, in a conjugate one, by the conjugate integrator of
    the part alone, with the part's own row of B = lambda I, or of lambda in all places; at lambda = 0 its decay is
    exact. The noise of positions in O has the variance 1 - exp(-lambda_s beta gamma dt), the process's at lambda_s = 1.

    Pandey et al. 2024, "Efficient Integrators for Diffusion Generative Models", sections 3.2 and 3.3: naive and reduced
    splitting (NVV, RVV, NOBA, ROBA), conjugate splitting (CVV).

    Deviation: I have not seen the paper's full text. Which evaluations are shared, at which times, where lambda_s
    stands and how the two frameworks are put together is rederived from what is told of them.

    Args:
        scheme: letters a, b and, for the SDE, o.
        reduced: evaluations are shared.
        strength: lambda, per unit of time; None: Euler.
        shape: of B, see `Conjugate`.
        noise: lambda_s, at least 0.

    Raises:
        UserError: other letters, or no a or b; an unknown shape; negative noise.
    """

    def __init__(
        self,
        scheme: str = "bab",
        reduced: bool = True,
        strength: float | None = None,
        shape: Literal["identity", "ones"] = "identity",
        noise: float = 1.0,
    ) -> None:
        if not set(scheme) <= set("abo") or not set("ab") <= set(scheme):
            raise UserError(f"integrator.scheme={scheme}: an a, a b and, on request, o.", "ba, bab, oba or bao")
        if noise < 0:
            raise UserError(f"integrator.noise={noise}: a factor on a variance, at least 0.")
        self.scheme, self.reduced, self.noise = scheme, reduced, noise
        self.share = 2 if "o" in scheme else 1
        self.conjugation = None if strength is None else conjugation(strength, shape)

    def step(self, field: PhaseField, z: Tensor, s: Tensor, t: Tensor) -> Tensor:
        done = dict.fromkeys(self.scheme, 0)
        noise, at = None, s
        for part in self.scheme:
            h = (t - s) / self.scheme.count(part)
            if part == "o":
                z = relaxed(field.space, z, -h, self.noise)
                continue
            if noise is None or not self.reduced:
                noise = field.noise(z, s)
            elif done[part]:
                noise, at = field.noise(z, t), t
            begin = s + done[part] * h
            linear, weight = self.coefficients(field.space, ROWS[part], at, begin, begin + h)
            z = acted(linear, z) + acted(weight, noise)
            done[part] += 1
        return z

    def coefficients(self, space: PhaseSpace, row: Tensor, at: Tensor, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """What z and eps of a time `at` are multiplied by as a row of z goes from time s to t, each (2, 2)."""
        one = torch.eye(2, dtype=torch.float64)
        drift = row * (space.drift + (self.share - 1) * torch.diag(space.drift.diagonal()))
        squared = self.share * row * space.diffusion
        if self.conjugation is not None:
            return coefficients(space, drift, squared, row * self.conjugation, s, t)
        return one + (t - s) * drift, (t - s) / 2 * squared @ space.whitening(at)


def relaxed(space: PhaseSpace, z: Tensor, h: Tensor, noise: float = 1.0) -> Tensor:
    """O: z (B, 2, ...) after a time h of the process that keeps N(0, S), with `noise` for lambda_s."""
    exponent = space.rate * space.friction * h
    spread = space.stationary.diagonal() * -torch.expm1(-exponent * torch.tensor([noise, 1]).double())
    return acted((-0.5 * exponent).exp().diag(), z) + acted(spread.sqrt().diag(), torch.randn_like(z))
