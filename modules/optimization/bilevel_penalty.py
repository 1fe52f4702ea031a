"""Penalty methods for bilevel optimization: a hypergradient from gradients alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from modules.optimization.bilevel import LOWER, UPPER, BilevelMethod


class BilevelPenalty(BilevelMethod):
    """Descends the penalty function, which is within O(sigma) of F(x, y*(x)) in value and gradient:

        h_s = s F + g,   psi(x) = (min_y h_sigma(x, y) - min_z g(x, z)) / sigma
        grad psi(x) = grad_x F(x, y) + (grad_x g(x, y) - grad_x g(x, z)) / sigma

    at the two minimisers y and z. Where the lower level has several solutions, that is the gradient at the one of them
    that F likes best. A step moves both by `lower_steps` of projected gradients on a proximal problem around centres
    a and b, which then follow them:

        y <- y - rate (grad_y h_sigma(x, y) + (y - a) / rho)        a <- a + pull (y - a)
        z <- z - rate (grad_y g(x, z) + (z - b) / rho)              b <- b + pull (z - b)

    With `momentum` eta below 1 it has a single loop: one step of y and z per step of x, and each of the three
    directions d, of y, of z and of x, is corrected by the same records' gradient at the last point p',

        d = grad(p; records) + (1 - eta) (d' - grad(p'; records)).

    Kwon, Kwon, Wright and Nowak 2024, "On penalty methods for nonconvex bilevel optimization and first-order stochastic
    approximation". The penalty function, its order in sigma, the proximal double loop and the momentum-assisted single
    loop are in its abstract and summaries; the recursion of the momentum was checked against the text of the same
    authors' earlier "A fully first-order method for stochastic bilevel optimization", which the paper builds on. How
    centres follow was written from memory.

    Deviations: (1) sigma, rates and eta are constant, where the theorems let them fall with the step; (2) no variable
    is constrained, so that no projection is made; (3) records of the direction of x are those of the whole batch, which
    y and z have seen parts of; (4) the step of x is the optimizer's.

    Args:
        sigma: the penalty parameter (the theory: of the order of the accuracy that is wanted).
        rho: of the proximal problem; None: no proximal term (infinity).
        pull: how far centres follow, in (0, 1].
        momentum: eta, in (0, 1]; 1: none.
        parts: see `BilevelMethod`. With `fresh` y and z see records of their own, too.

    Raises:
        UserError: numbers out of range, momentum with more than one lower step.
    """

    papers = ("kwon2024penalty",)

    z: Tensor
    a: Tensor
    b: Tensor
    begun: Tensor

    def __init__(
        self,
        *arguments: Any,
        sigma: float = 0.01,
        rho: float | None = None,
        pull: float = 1.0,
        momentum: float = 1.0,
        **parts: Any,
    ) -> None:
        super().__init__(*arguments, **parts)
        if not sigma > 0 or (rho is not None and not rho > 0) or not 0 < pull <= 1 or not 0 < momentum <= 1:
            raise UserError(
                f"model.sigma={sigma} rho={rho} pull={pull} momentum={momentum}: sigma and rho above 0, the others in "
                "(0, 1]."
            )
        if momentum < 1 and self.lower_steps > 1:
            raise UserError(
                f"model.momentum={momentum} model.lower_steps={self.lower_steps}: momentum is of the single loop.",
                "model.lower_steps=1",
            )
        self.sigma, self.rho, self.pull, self.momentum = sigma, rho, pull, momentum
        for name in ("z", "a", "b"):
            self.register_buffer(name, self.y.clone())
        if momentum < 1:
            for name, like in (("x", self.x), ("y", self.y), ("z", self.z)):
                self.register_buffer(f"last_{name}", torch.zeros_like(like, requires_grad=False))
                self.register_buffer(f"direction_{name}", torch.zeros_like(like, requires_grad=False))
            self.register_buffer("begun", torch.zeros((), dtype=torch.bool))

    def hypergradient(self, x: Tensor, batch: Any) -> Tensor:
        parts = self.lower_batches(batch, 2 * self.lower_steps)
        start = y, z = self.y, self.z.clone()
        for of_y, of_z in zip(parts[::2], parts[1::2], strict=True):
            upper = self.upper_records()

            def slope_y(x: Tensor, y: Tensor, of_y: Any = of_y, upper: Any = upper) -> Tensor:
                return self.sigma * self.gradients(UPPER, x, y, upper)[1] + self.gradients(LOWER, x, y, of_y)[1]

            def slope_z(x: Tensor, z: Tensor, of_z: Any = of_z) -> Tensor:
                return self.gradients(LOWER, x, z, of_z)[1]

            slopes = self.direction("y", slope_y, (x, y)), self.direction("z", slope_z, (x, z))
            if self.rho is not None:
                slopes = slopes[0] + (y - self.a) / self.rho, slopes[1] + (z - self.b) / self.rho
            y, z = y - self.lower_rate * slopes[0], z - self.lower_rate * slopes[1]

        upper = self.upper_records()

        def slope_x(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
            more = self.gradients(LOWER, x, y, batch)[0] - self.gradients(LOWER, x, z, batch)[0]
            return self.gradients(UPPER, x, y, upper)[0] + more / self.sigma

        estimate = self.direction("x", slope_x, (x, y, z), start)
        if self.momentum < 1:
            self.last_x.copy_(x), self.last_y.copy_(start[0]), self.last_z.copy_(start[1])
            self.begun.fill_(True)
        self.y = y
        self.z.copy_(z), self.a.lerp_(y, self.pull), self.b.lerp_(z, self.pull)
        return estimate

    def direction(
        self, name: str, slope: Callable[..., Tensor], point: tuple[Tensor, ...], weights: tuple[Tensor, ...] = ()
    ) -> Tensor:
        """The direction of a variable at a point: its slope there, or the recursion where there is momentum.

        Args:
            name: of the variable.
            slope: point -> gradient on the records at hand.
            point: x, and weights.
            weights: those of the last point; the ones before the last step of y or z where there are none.
        """
        found = slope(*point)
        if self.momentum < 1:
            kept = getattr(self, f"direction_{name}")
            if self.begun:
                last = self.last_x, *(weights or (getattr(self, f"last_{name}"),))
                found = found + (1 - self.momentum) * (kept - slope(*last))
            kept.copy_(found)
        return found
