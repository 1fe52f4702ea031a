"""Newton's method for equality constraints, its systems solved inexactly, on an exact augmented Lagrangian."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.linalg import eigvalsh, qr, vector_norm

from compendium.config import instantiate
from compendium.errors import UserError
from datamodules.spec import DataSpec
from modules.method import Method
from modules.optimization.constrained.solvers import Solver

LEAST = 1e-6
"""Of the accuracy delta, as in the authors' code."""


class ConstrainedMethod(Method, ABC):
    """min f(x) subject to c(x) = 0, in float64, one iteration of AdapNewton on each batch.

    With L = f + lambda . c, H its Hessian in x, G the Jacobian of c, b = -(grad_x L, c), an iteration is

        A = [[B, G^T], [G, 0]],  B = H, + (xi_B + |H|) I where H is not positive on the null space of G
        the solver improves on d = (dx, dlambda) until    |A| psi |A d - b| <= theta delta |b|
        psi = 20 max(|B|^2, 1) / (min(xi_G, 1) min(xi_B, 1)),  xi_G the least eigenvalue of G G^T
        delta <= (1/2 - beta) eta2 / ((1 + eta1 + eta2) upsilon^2 psi^2),  upsilon = max(|G|, |H|, 1)
        until  grad L_eta . d <= -eta2 / 2 |b|^2:  eta1 *= nu^2, eta2 /= nu, delta /= nu^4, and the solver goes on
        (x, lambda) += alpha d,  the largest alpha in 1, 1/2, ... with an Armijo decrease beta of
        L_eta = L + eta1 / 2 |c|^2 + eta2 / 2 |grad_x L|^2

    with norms of Frobenius. Training ends at |b| <= tolerance. theta is 1, or min(1, |b|) where the accuracy is
    sharpened, which makes convergence superlinear.

    Hong, Na, Mahoney and Kolar 2023, "Constrained Optimization via Exact Augmented Lagrangian and Randomized Iterative
    Sketching": abstract, and the authors' code AdaSketch-Newton, whose constants these are (`Param.jl`).

    Deviations: (1) the gradient of L_eta has the Hessian of L, which is exact, where the code has that of f; (2) delta
    is kept above 1e-6 as in the code, so that it is not the theory's where problems are badly scaled; (3) residuals are
    looked at after every d sketches; (4) the line search passes what is lost in rounding, and stops at 60 halvings;
    (5) H is dense, by automatic differentiation, and its cost is not among the operations counted, which are those of
    the linear systems.

    Args:
        spec: of the records.
        solver: a `Solver`, or its config.
        tolerance: of |b|; 1e-4 in the code.
        sharpen: whether theta falls with |b|.
        parts: `net`, `optimizer`, `schedule`, which it has no use for.

    Raises:
        UserError: a tolerance that is not positive.
    """

    eta1, eta2, delta, xi, beta, nu = 1.0, 0.1, 0.1, 0.1, 0.1, 1.5
    curved = 1e-6
    """Least eigenvalue of H on the null space of G that passes for positive."""
    papers = ("hong2023constrained",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        solver: Solver | Mapping[str, Any],
        tolerance: float = 1e-6,
        sharpen: bool = False,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        self.automatic_optimization = False
        if not tolerance > 0:
            raise UserError(f"model.tolerance={tolerance}: above 0.")
        self.solver: Solver = solver if isinstance(solver, Solver) else instantiate(solver, where="model.solver")
        self.tolerance, self.sharpen = tolerance, sharpen
        self.register_buffer("adapted", torch.tensor([self.eta1, self.eta2, self.delta], dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(3, dtype=torch.float64))  # iterations, operations, evaluations

    def begin(self, start: Tensor, multipliers: int, first: float) -> None:
        """Start from x_0 (n,), with so many constraints, 1 to n, whose multipliers are all `first`."""
        self.weight = nn.Parameter(start.double().clone())
        self.register_buffer("multiplier", torch.full((multipliers,), first, dtype=torch.float64))

    @abstractmethod
    def objective(self, x: Tensor, batch: Any) -> Tensor:
        """x (n,) -> f(x) ()."""

    @abstractmethod
    def constraints(self, x: Tensor) -> Tensor:
        """x (n,) -> c(x) (multipliers,)."""

    def loss(self, batch: Any) -> Tensor:
        return self.objective(self.weight, batch)

    def derivatives(self, x: Tensor, multiplier: Tensor, batch: Any) -> tuple[Tensor, Tensor]:
        """grad_x L (n,) and c (m,)."""
        value, back = torch.func.vjp(self.constraints, x)
        slope = torch.func.grad(lambda at: self.objective(at, batch))(x)
        return slope + back(multiplier)[0], value

    def merit(self, x: Tensor, multiplier: Tensor, batch: Any) -> float:
        """L_eta."""
        slope, value = self.derivatives(x, multiplier, batch)
        eta1, eta2 = self.adapted[:2].tolist()
        lagrangian = self.objective(x, batch) + multiplier @ value
        return float(lagrangian + eta1 / 2 * value.square().sum() + eta2 / 2 * slope.square().sum())

    def residual(self, batch: Any) -> float:
        """|b| at the present x and multipliers."""
        return float(vector_norm(torch.cat(self.derivatives(self.weight.detach(), self.multiplier, batch))))

    @torch.no_grad()
    def iterate(self, batch: Any) -> bool:
        """One iteration, if |b| is above the tolerance -> whether it was.

        Raises:
            UserError: a Jacobian that has lost its rank.
        """
        x, multiplier = self.weight.detach().clone(), self.multiplier.clone()
        slope, value = self.derivatives(x, multiplier, batch)
        b = -torch.cat([slope, value])
        size = float(vector_norm(b))
        if size <= self.tolerance:
            return False
        jacobian = torch.func.jacrev(self.constraints)(x)
        hessian = torch.func.hessian(lambda at: self.objective(at, batch) + multiplier @ self.constraints(at))(x)
        d, flops = self.direction(hessian, jacobian, b)
        n, along = len(x), float(self.slope_of_merit(hessian, jacobian, b) @ d)
        now, alpha, tried = self.merit(x, multiplier, batch), 1.0, 1
        rounding = 1e-14 * max(abs(now), 1.0)
        while (
            self.merit(x + alpha * d[:n], multiplier + alpha * d[n:], batch)
            > now + alpha * self.beta * along + rounding
        ):
            alpha, tried = alpha / 2, tried + 1
            if tried > 60:
                break
        self.weight.copy_(x + alpha * d[:n])
        self.multiplier.copy_(multiplier + alpha * d[n:])
        self.counts += torch.tensor([1.0, flops, tried + 1.0], dtype=torch.float64)
        return True

    def slope_of_merit(self, hessian: Tensor, jacobian: Tensor, b: Tensor) -> Tensor:
        """The gradient of L_eta (n + m,)."""
        n = len(hessian)
        slope, value = -b[:n], -b[n:]
        eta1, eta2 = self.adapted[:2]
        upper = slope + eta2 * hessian @ slope + eta1 * jacobian.T @ value
        return torch.cat([upper, value + eta2 * jacobian @ slope])

    def direction(self, hessian: Tensor, jacobian: Tensor, b: Tensor) -> tuple[Tensor, float]:
        """H (n, n), G (m, n), b (n + m,) -> d (n + m,), along which L_eta falls, and the operations of the solver."""
        m, n = jacobian.shape
        least = float(eigvalsh(jacobian @ jacobian.T)[0])
        if least < 1e-12:
            raise UserError("The constraints' Jacobian has lost its rank.", "Start elsewhere: AdapNewton needs it.")
        null = qr(jacobian.T, mode="complete")[0][:, m:]
        large = float(vector_norm(hessian))
        convex = m == n or float(eigvalsh(null.T @ hessian @ null)[0]) >= self.curved
        shifted = hessian if convex else hessian + (self.xi + large) * torch.eye(n).to(hessian)
        upper = torch.cat([shifted, jacobian.T], 1)
        matrix = torch.cat([upper, torch.cat([jacobian, jacobian.new_zeros(m, m)], 1)])
        psi = 20 * max(float(vector_norm(shifted)) ** 2, 1) / (min(least, 1) * min(self.xi, 1))
        upsilon = max(float(vector_norm(jacobian)), large, 1)
        size, whole = float(vector_norm(b)), float(vector_norm(matrix))
        theta = min(1.0, size) if self.sharpen else 1.0
        d, flops, divisor = torch.zeros_like(b), 0.0, 1.0
        while True:
            eta1, eta2, delta = self.adapted.tolist()
            allowed = (0.5 - self.beta) * eta2 / ((1 + eta1 + eta2) * upsilon**2 * psi**2)
            self.adapted[2] = delta = max(min(delta / divisor, allowed), LEAST)
            d, more = self.solver.solve(matrix, b, d, theta * delta * size / (whole * psi))
            flops += more
            falls = float(self.slope_of_merit(hessian, jacobian, b) @ d) <= -eta2 / 2 * size**2
            if falls or eta1 > 1e8 or eta2 < 1e-8:
                return d, flops
            self.adapted[:2] = torch.tensor([eta1 * self.nu**2, eta2 / self.nu])
            divisor = self.nu**4

    # What Lightning calls

    def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        value = self.loss(batch).detach()
        self.terms = {"loss": value}
        if not self.iterate(batch):
            self.trainer.should_stop = True
        self.count_step()

    def configure_optimizers(self) -> None:
        return None

    def constrained_optimality(self, batch: Any) -> dict[str, float]:
        """Training records -> how near x is to a solution and at what cost, see `Constrained`."""
        with torch.no_grad():
            kkt = self.residual(batch)
            violation = float(vector_norm(self.constraints(self.weight.detach())))
        iterations, flops, evaluations = self.counts.tolist()
        return {
            "kkt": kkt,
            "violation": violation,
            "iterations": iterations,
            "log10_operations": math.log10(max(flops, 1.0)),
            "merit_evaluations": evaluations,
        }
