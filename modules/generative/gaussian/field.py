"""What a sampler sees of a model."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from modules.generative.gaussian.paths import Path
from modules.generative.gaussian.stops import asked, spread
from modules.generative.gaussian.targets import noise_of, score_of

Ask = Callable[[Tensor, Tensor], Tensor]


class Field:
    """E[x_0 | x_t] along a path, and everything that follows from it.

    One is made for each call of a sampler; guidance that remembers earlier steps keeps its memory in a subclass.

    Args:
        path: of the noise.
        denoiser: x (B, ...), t (B,) -> E[x_0 | x_t = x] (B, ...).
        flow: x (B, ...), t (B,) -> drift of the probability flow (B, ...), of a model that predicts just that; None: it
            follows from the denoiser.

    Attributes:
        calls: how many network evaluations of a whole batch were made so far.
        prior_mean: mean of what sampling starts from: a number, or one per draw (n, ...).
    """

    cost = 1
    """Network evaluations per call of `data`."""

    def __init__(self, path: Path, denoiser: Ask, flow: Ask | None = None) -> None:
        self.path = path
        self.denoiser = denoiser
        self.flow = flow
        self.calls = 0
        self.prior_mean: Tensor | float = 0.0

    @cached_property
    def prior_std(self) -> float:
        """Standard deviation of what sampling starts from: the path's, unless it is set."""
        return self.path.prior_std

    def data(self, x: Tensor, t: Tensor) -> Tensor:
        """x (B, ...) at the time t, a single number -> E[x_0 | x_t] (B, ...)."""
        self.calls += self.cost
        return self.denoiser(x, spread(t, x))

    def noise(self, x: Tensor, t: Tensor) -> Tensor:
        """E[eps | x_t] (B, ...)."""
        return noise_of(self.data(x, t), x, t, self.path)

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """Gradient of the log density of x_t, (B, ...)."""
        return score_of(self.data(x, t), x, t, self.path)

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """Drift of the probability flow, alpha' E[x_0] + sigma' E[eps], (B, ...)."""
        if self.flow is not None:
            self.calls += self.cost
            return self.flow(x, spread(t, x))
        of_data, of_x = asked(self.drift, t)
        return of_data * self.data(x, t) + of_x * x

    def drift(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients of E[x_0 | x_t] and of x_t in the velocity."""
        d_alpha, d_sigma = self.path.rates(t)
        of_x = d_sigma / self.path.sigma(t)
        return d_alpha - of_x * self.path.alpha(t), of_x

    def prior(self, n: int, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """n draws (n, *shape) of the noise that sampling starts from."""
        noise = self.path.noise(torch.empty(n, *shape, device=like.device, dtype=like.dtype))
        return self.prior_mean + self.prior_std * noise
