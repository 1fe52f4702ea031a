"""Stochastic interpolants: one pair of fields, a family of deterministic and stochastic samplers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from compendium.config import instantiate
from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.source import Truth
from datamodules.spec import DataSpec
from modules.generative.gaussian.likelihood import divergence, signs_of
from modules.generative.gaussian.paths import along
from modules.method import Method

HALF_PI = math.pi / 2


class Coefficient(NamedTuple):
    """A function of t and its derivative, both (B,) -> (B,)."""

    value: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]


PATHS: dict[str, tuple[Coefficient, Coefficient]] = {
    "linear": (
        Coefficient(lambda t: 1 - t, lambda t: -torch.ones_like(t)),
        Coefficient(lambda t: t, torch.ones_like),
    ),
    "trigonometric": (
        Coefficient(lambda t: torch.cos(HALF_PI * t), lambda t: -HALF_PI * torch.sin(HALF_PI * t)),
        Coefficient(lambda t: torch.sin(HALF_PI * t), lambda t: HALF_PI * torch.cos(HALF_PI * t)),
    ),
}
"""(alpha, beta) of I(t, x0, x1) = alpha(t) x0 + beta(t) x1, Table 4 of the paper."""

GAMMAS: dict[str, Coefficient] = {
    "none": Coefficient(torch.zeros_like, torch.zeros_like),
    "brownian": Coefficient(
        lambda t: (2 * t * (1 - t)).sqrt(),
        lambda t: (1 - 2 * t) / (2 * t * (1 - t)).sqrt(),
    ),
    "quadratic": Coefficient(lambda t: t * (1 - t), lambda t: 1 - 2 * t),
    "sine": Coefficient(lambda t: torch.sin(math.pi * t).square(), lambda t: math.pi * torch.sin(2 * math.pi * t)),
}
"""gamma of the latent noise, zero at both ends; `none` is the one-sided interpolant, whose noise is x0 itself."""


class StandardNormal:
    """The base density of generation from noise."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def sample(self, n: int, like: Tensor) -> Tensor:
        return torch.randn(n, *self.shape, device=like.device, dtype=like.dtype)

    def log_prob(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        return -0.5 * (x.square().sum(1) + x.shape[1] * math.log(2 * math.pi))


class KnownDensity:
    """Another density as the base, with its exact law."""

    def __init__(self, truth: Truth) -> None:
        self.truth = truth

    def sample(self, n: int, like: Tensor) -> Tensor:
        seed = int(torch.randint(2**62, ()))
        generator = torch.Generator().manual_seed(seed)
        return self.truth.sample(n, generator).to(like)

    def log_prob(self, x: Tensor) -> Tensor:
        return self.truth.log_prob(x)


class StochasticInterpolant(Method):
    """Learns the velocity and the denoiser of x_t = alpha(t) x0 + beta(t) x1 + gamma(t) z, and samples with any noise.

    x0 is drawn from the base, x1 from the data, z ~ N(0, I), t uniform. Two fields minimise

        velocity   E |v(t, x_t) - (alpha' x0 + beta' x1)|^2 / 2
        denoiser   E |eta(t, x_t) - n|^2 / 2        n = z, or x0 for the one-sided interpolant (gamma = none)

    Then b = v + gamma' eta is the drift of the probability flow, and s = -eta / sigma the score of x_t, with
    sigma = gamma (two-sided) or alpha (one-sided). From t = 0 to 1, with free epsilon >= 0,

        ODE   dx = b dt
        SDE   dx = (b + epsilon(t) s) dt + sqrt(2 epsilon(t)) dW

    share their marginals. The likelihood follows the ODE back: log p(x) = log p0(x(0)) - int_0^1 div b dt.

    Albergo, Boffi and Vanden-Eijnden 2023, "Stochastic Interpolants: A Unifying Framework for Flows and Diffusions":
    Definitions 2.1 and 3.1, Theorems 2.6 and 2.8, Corollary 2.10, Section 3.1 (one-sided).

    Deviations: (1) squared errors instead of |f|^2 / 2 - f . target, which differ by a constant; (2) velocity and
    denoiser are two outputs of one network, where the paper trains two; (3) the velocity regresses the time derivative
    of the interpolant without gamma' z, and b is put together from both fields, because gamma' is unbounded at the
    ends; (4) fields are evaluated at t in [margin, 1 - margin].

    Args:
        spec: images or vectors.
        path: alpha and beta, one of `linear`, `trigonometric`.
        gamma: `none` (one-sided; needs a Gaussian base), `brownian`, `quadratic`, `sine`.
        base: config of a source with an exact law, to start from another density; None: N(0, I).
        sampler: `ode` or `sde`.
        steps: sampling steps.
        epsilon: noise level of the SDE, at least 0; at 0 it is the ODE.
        noise: epsilon(t) = epsilon (`constant`) or epsilon * sigma(t) (`vanishing`, bounded drift at the ends).
        solver: torchdiffeq method of the ODE; `dopri5` is adaptive, the others make `steps` steps.
        likelihood_steps: steps of the ODE of the likelihood, by the same solver.
        exact_trace: exact divergence up to this many dimensions, above it Hutchinson's estimator (unbiased) with one
            probe of random signs per record, see `signs_of`.
        margin: distance that t keeps from 0 and 1.
        parts: `net`, `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: an unknown choice, or a one-sided interpolant with another base.
    """

    batch_type = Unlabelled
    kinds = ("image", "vector")
    papers = ("albergo2023stochastic",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        path: str = "linear",
        gamma: str = "none",
        base: Mapping[str, Any] | None = None,
        sampler: Literal["ode", "sde"] = "ode",
        steps: int = 32,
        epsilon: float = 1.0,
        noise: Literal["constant", "vanishing"] = "vanishing",
        solver: str = "midpoint",
        likelihood_steps: int = 16,
        exact_trace: int = 8,
        margin: float = 1e-3,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        for name, value, known in (
            ("path", path, PATHS),
            ("gamma", gamma, GAMMAS),
            ("sampler", sampler, ("ode", "sde")),
            ("noise", noise, ("constant", "vanishing")),
        ):
            if value not in known:
                raise UserError(f"model.{name}={value} is unknown.", f"there are: {', '.join(known)}")
        if epsilon < 0:
            raise UserError(f"model.epsilon={epsilon}: the noise level is at least 0.")
        if gamma == "none" and base is not None:
            raise UserError(
                "model.gamma=none takes x0 as its noise, which must be Gaussian.", "choose model.gamma=brownian"
            )
        self.alpha, self.beta = PATHS[path]
        self.gamma = GAMMAS[gamma]
        self.one_sided = gamma == "none"
        self.base: Any = StandardNormal(self.spec.shape) if base is None else KnownDensity(law_of(base))
        self.sampler, self.steps, self.epsilon, self.noise = sampler, steps, epsilon, noise
        self.solver, self.likelihood_steps, self.exact_trace = solver, likelihood_steps, exact_trace
        self.margin = margin
        channels, *rest = self.spec.shape
        self.net = self.build(self.spec.shape, (2 * channels, *rest), time=True)

    # Fields

    def fields(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """t (B,), x (B, ...) -> velocity v and denoiser eta, (B, ...) each."""
        return self.net(x, t).chunk(2, dim=1)

    def sigma(self, t: Tensor) -> Tensor:
        """Standard deviation of the Gaussian part of x_t given the rest (B,)."""
        return self.alpha.value(t) if self.one_sided else self.gamma.value(t)

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """b of the probability flow: t (B,), x (B, ...) -> (B, ...)."""
        t = self._inside(t)
        v, eta = self.fields(t, x)
        return v if self.one_sided else v + along(self.gamma.derivative(t), x) * eta

    def score(self, t: Tensor, x: Tensor) -> Tensor:
        """Gradient of the log density of x_t: t (B,), x (B, ...) -> (B, ...)."""
        t = self._inside(t)
        return -self.fields(t, x)[1] / along(self.sigma(t), x)

    def denoise(self, x: Tensor, t: Tensor) -> Tensor:
        """E[x1 | x_t = x] (B, ...), from v = alpha' E[x0] + beta' E[x1], x = alpha E[x0] + beta E[x1] + gamma eta."""
        t = self._inside(t)
        v, eta = self.fields(t, x)
        a, da, b, db = (along(f(t), x) for f in (*self.alpha, *self.beta))
        return (da * (x - along(self.gamma.value(t), x) * eta) - a * v) / (da * b - a * db)

    def _inside(self, t: Tensor) -> Tensor:
        return t.clamp(self.margin, 1 - self.margin)

    # Training

    def loss(self, batch: Unlabelled) -> dict[str, Tensor]:
        x1 = batch.x
        x0 = self.base.sample(len(x1), like=x1)
        t = self._inside(torch.rand(len(x1), device=x1.device, dtype=x1.dtype))
        a, da, b, db = (along(f(t), x1) for f in (*self.alpha, *self.beta))
        x = a * x0 + b * x1
        noise = x0
        if not self.one_sided:
            noise = torch.randn_like(x1)
            x = x + along(self.gamma.value(t), x1) * noise
        v, eta = self.fields(t, x)
        return {
            "velocity": 0.5 * (v - (da * x0 + db * x1)).square().mean(),
            "denoiser": 0.5 * (eta - noise).square().mean(),
        }

    # Sampling

    def sample(self, n: int) -> Tensor:
        """n draws (n, ...), by the configured sampler."""
        x0 = self.base.sample(n, like=next(self.parameters()))
        return self.transport(x0)

    @torch.no_grad()
    def transport(self, x0: Tensor) -> Tensor:
        """Carry draws of the base (n, ...) to draws of the data (n, ...)."""
        if self.sampler == "ode" or self.epsilon == 0:
            return self._solve(self._flow, x0, 0.0, 1.0, self.steps)
        return self._diffuse(x0)

    def _flow(self, t: Tensor, x: Tensor) -> Tensor:
        return self.drift(t.to(x).expand(len(x)), x)

    def _diffuse(self, x: Tensor) -> Tensor:
        """Euler-Maruyama from 0 to 1; the noise of the last step is left out, as its drift is the denoised mean."""
        grid = torch.linspace(0, 1, self.steps + 1, device=x.device, dtype=x.dtype).tolist()
        for start, end in pairwise(grid):
            step = end - start
            t = self._inside(torch.full((len(x),), start, device=x.device, dtype=x.dtype))
            v, eta = self.fields(t, x)
            sigma = along(self.sigma(t), x)
            epsilon = self.epsilon * (sigma if self.noise == "vanishing" else torch.ones_like(sigma))
            drift = v + along(self.gamma.derivative(t), x) * eta - epsilon * eta / sigma
            x = x + step * drift
            if end < 1:
                x = x + (2 * epsilon * step).sqrt() * torch.randn_like(x)
        return x

    def _solve(self, field: Callable, state: Any, start: float, end: float, steps: int) -> Any:
        """An ODE's state at `end`, from torchdiffeq."""
        from torchdiffeq import odeint

        x = state[0] if isinstance(state, tuple) else state
        if self.solver == "dopri5":
            span = torch.tensor([start, end], device=x.device, dtype=x.dtype)
            path = odeint(field, state, span, method="dopri5", rtol=1e-5, atol=1e-5)
        else:
            span = torch.linspace(start, end, steps + 1, device=x.device, dtype=x.dtype)
            path = odeint(field, state, span, method=self.solver)
        return tuple(part[-1] for part in path) if isinstance(path, tuple) else path[-1]

    # Likelihood

    @torch.no_grad()
    def log_prob(self, x: Tensor) -> Tensor:
        """x (B, ...) -> natural log of the density under the ODE (B,)."""
        exact = math.prod(self.spec.shape) <= self.exact_trace
        probe = None if exact else signs_of(x)

        def field(t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            return divergence(lambda y: self._flow(t, y), state[0], probe)

        x0, integral = self._solve(field, (x, x.new_zeros(len(x))), 1.0, 0.0, self.likelihood_steps)
        return self.base.log_prob(x0) + integral


def law_of(base: Mapping[str, Any]) -> Truth:
    """The exact law behind a source's config.

    Raises:
        UserError: the source has none.
    """
    records = instantiate(base, where="model.base").load()
    if records.truth is None:
        raise UserError(
            f"model.base: '{records.spec.name}' has no exact law to draw from.", "choose a density: ring, moons, ..."
        )
    return records.truth
