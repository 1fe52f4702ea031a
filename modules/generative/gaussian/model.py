"""What every model of a Gaussian path can do once it can denoise: be guided, be sampled, give a likelihood."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from compendium.config import instantiate
from datamodules.spec import DataSpec
from modules.generative.gaussian import likelihood
from modules.generative.gaussian.field import Ask, Field
from modules.generative.gaussian.flow_map import singular_values
from modules.generative.gaussian.paths import Path
from modules.generative.gaussian.targets import target_of, value_of
from modules.generative.gaussian.weightings import times_of
from modules.generative.guidance.base import Guidance
from modules.generative.samplers.base import Sampler
from modules.generative.timesteps.grids import Timesteps
from modules.method import Method

Node = Mapping[str, Any]


class GaussianModel(Method, ABC):
    """A model of E[x_0 | x_t] on a path x_t = alpha(t) x_0 + sigma(t) eps.

    A subclass gives `denoise`. With it come draws, by any sampler with any schedule and guidance, and the likelihood.

    Args:
        spec: images or vectors.
        path: config of a `modules.generative.gaussian.paths.Path`.
        sampler: config of a `modules.generative.samplers.base.Sampler`.
        timesteps: config of a `modules.generative.timesteps.grids.Timesteps`.
        guidance: config of a `modules.generative.guidance.base.Guidance`.
        likelihood_steps: steps of the flow of the likelihood.
        exact_trace: dimensions up to which its divergence is exact.
        parts: the arguments of `Method`.
    """

    kinds = ("image", "vector")

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        path: Node,
        sampler: Node,
        timesteps: Node,
        guidance: Node,
        likelihood_steps: int = 16,
        exact_trace: int = likelihood.EXACT_TRACE,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        self.path: Path = instantiate(path, where="path")
        self.sampler: Sampler = instantiate(sampler, where="sampler")
        self.timesteps: Timesteps = instantiate(timesteps, where="timesteps")
        self.guidance: Guidance = instantiate(guidance, where="guidance")
        self.likelihood_steps, self.exact_trace = likelihood_steps, exact_trace
        self.evaluations = 0.0

    @abstractmethod
    def denoise(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """E[x_0 | x_t = x] (B, ...) at times t (B,); y int64 (B,) where there are classes, -1 for any."""

    def flow(self, y: Tensor | None = None) -> Ask | None:
        """x (B, ...), t (B,) -> drift of the probability flow (B, ...); None where it has to follow from `denoise`."""
        return None

    def field(self, y: Tensor | None = None) -> Field:
        """What samplers follow, towards classes y (B,) where there are any."""
        return self.guidance.field(self, y)

    @cached_property
    def grid(self) -> Tensor:
        """The times at which the sampler stops, falling, float64."""
        return self.timesteps.times(self.path)

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """n draws (n, ...)."""
        return self.draw(self.field(), n)

    def draw(self, field: Field, n: int) -> Tensor:
        """n draws (n, ...) along a field."""
        draws = self.sampler.sample(field, field.prior(n, self.spec.shape, self.like), self.grid)
        self.evaluations = float(field.calls)
        return draws

    @torch.no_grad()
    def trajectories(self, n: int) -> Tensor:
        """n draws as `sample` makes them, at each evaluation of the field and at the end (steps, n, ...).

        States are scaled so that data and noise of all times have one standard deviation, that of the draws.
        """
        field, seen = self.field(), []

        def recorded(ask: Ask) -> Ask:
            def answer(x: Tensor, t: Tensor) -> Tensor:
                seen.append((x, t.to(x).view(-1)[:1]))
                return ask(x, t)

            return answer

        field.data = recorded(field.data)  # type: ignore[method-assign]
        if field.flow is not None:
            field.flow = recorded(field.flow)
        draws = self.draw(field, n)
        std = float(draws.std())
        return torch.stack([*(std * self.path.scaled(x, t, std) for x, t in seen), draws])

    def function_evaluations(self) -> float:
        """Evaluations of the network per draw in the last call of `sample`; a conditional and an unconditional one are
        two, whether or not they travel in one batch.
        """
        return self.evaluations

    @contextmanager
    def steered(self, **parts: Any) -> Iterator[None]:
        """Sample with another `sampler`, `timesteps` or `guidance` for a while: configs."""
        own = {name: getattr(self, name) for name in parts}
        self.exchange({name: instantiate(node, where=name) for name, node in parts.items()})
        try:
            yield
        finally:
            self.exchange(own)

    def exchange(self, parts: Mapping[str, Any]) -> None:
        """Put parts in the place of those that there are."""
        for name, part in parts.items():
            setattr(self, name, part)
        self.__dict__.pop("grid", None)  # it follows from the time steps

    @torch.no_grad()
    def kinetic_energy(self, x: Tensor) -> Tensor:
        """Records (B, ...) -> (path's length in time) |v(x_t, t)|^2 / dimensions (B,), at random times and noise."""
        path = self.path
        t, noise = times_of("uniform", path, len(x), x), path.noise(x)
        noisy = path.noised(x, t, noise)
        data = self.denoise(noisy, t)
        velocity = value_of(data, noisy, t, target_of("velocity", path, t), path)
        return (path.end - path.start) * velocity.flatten(1).square().mean(1)

    def stretching(self, n: int, ratios: Tensor) -> Tensor:
        """n draws -> singular values of the flow from noise to noise ratios sigma / alpha (K,), falling (K, n, D)."""
        times = self.path.time_of_ratio(ratios.double())
        start = torch.tensor([self.path.end], dtype=torch.float64)
        field = self.field()
        return singular_values(field, field.prior(n, self.spec.shape, self.like), torch.cat([start, times]))

    @property
    def like(self) -> Tensor:
        """A tensor of the model's device and precision."""
        return next(self.parameters())

    @torch.no_grad()
    def log_prob(self, x: Tensor) -> Tensor:
        """x (B, ...) -> natural log of the density under the probability flow of the unguided model (B,)."""
        return likelihood.log_prob(
            Field(self.path, self.denoise, self.flow()), x, self.likelihood_steps, self.exact_trace
        )
