"""Phase-space Langevin diffusion, with integrators of its own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from compendium.config import instantiate
from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.analytic_diffusion import mixture_of
from modules.generative.gaussian.model import Node
from modules.generative.gaussian.phase_space import PhaseField, PhaseMixture, PhaseSpace
from modules.generative.integrators.base import Integrator
from modules.generative.timesteps.grids import Given, Power, Timesteps, Uniform
from modules.method import Method


class PhaseSpaceDiffusion(Method):
    """Diffusion of records x with a momentum m each, z = (x, m), see `PhaseSpace`. The network learns the noise,

        loss   E |eps - net(exp(F t) (x_0, 0) + L eps, t)|^2,   eps ~ N(0, I), t uniform

    in which the momentum at t = 0 is noise too (hybrid score matching), and an `integrator` carries (x, m) back.

    Pandey and Mandt 2023, "A Complete Recipe for Diffusion Generative Models" (PSLD); Pandey et al. 2024, "Efficient
    Integrators for Diffusion Generative Models", for the integrators.

    Deviations: (1) draws end with E[x_0 | z] at the smallest time, which is what the authors' last Euler step to t = 0
    estimates. (2) The network's output is the noise, without the preconditioning of the later paper's best figures.

    Args:
        spec: images or vectors, of about unit variance.
        integrator: config of a `modules.generative.integrators.base.Integrator`.
        timesteps: config of a `Timesteps` in the process's own time: uniform, power or given.
        source: config of the source of a known mixture of Gaussians, whose exact noise is then the network's, and
            nothing is trained; None: a network.
        gamma: friction of the position, see `PhaseSpace`.
        nu: friction of the momentum.
        rate: of the process.
        spread: of the momentum at t = 0.
        parts: `net`, `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: time steps by a noise ratio, of which there are two; a source of another law; an exact field trained.
    """

    batch_type = Unlabelled
    like: Tensor
    kinds = ("image", "vector")
    papers = ("pandey2024efficient",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        integrator: Node,
        timesteps: Node,
        source: Mapping[str, Any] | None = None,
        gamma: float = 0.01,
        nu: float = 4.01,
        rate: float = 8.0,
        spread: float = 0.04,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        self.space = PhaseSpace(gamma, nu, rate, spread)
        self.integrator: Integrator = instantiate(integrator, where="integrator")
        self.timesteps: Timesteps = instantiate(timesteps, where="timesteps")
        if not isinstance(self.timesteps, Uniform | Power | Given):
            name = type(self.timesteps).__name__
            raise UserError(f"timesteps={name} goes by a noise ratio, of which phase space has two.", "timesteps=power")
        self.exact: PhaseMixture | None = None
        self.evaluations = 0.0
        self.register_buffer("like", torch.empty(0), persistent=False)
        if source is None:
            self.net = self.build(self.doubled, self.doubled, time=True)
        else:
            law, _ = mixture_of(source)
            self.exact = PhaseMixture(self.space, law.means, law.variances[:, 0].sqrt(), law.log_weights.exp())

    @property
    def doubled(self) -> tuple[int, ...]:
        """Shape of a state as the network sees it: twice the channels, or the components."""
        return (2 * self.spec.shape[0], *self.spec.shape[1:])

    def predict(self, z: Tensor, t: Tensor) -> Tensor:
        """E[eps | z_t = z] (B, 2, ...) at times t (B,), all the same for an exact field."""
        if self.exact is not None:
            return self.exact.predict(z, t)
        return self.net(z.flatten(1, 2), t / self.space.end).view_as(z)

    def loss(self, batch: Unlabelled) -> Tensor:
        if self.exact is not None:
            raise UserError("model.source gives an exact field: there is nothing to train.", "trainer.max_epochs=0")
        x, space = batch.x, self.space
        t = space.start + (space.end - space.start) * torch.rand(len(x), device=x.device, dtype=x.dtype)
        noise = torch.randn(len(x), 2, *x.shape[1:], device=x.device, dtype=x.dtype)
        return mse_loss(self.predict(space.noised(x, t, noise), t), noise)

    @cached_property
    def grid(self) -> Tensor:
        """The times at which the integrator stops, falling, float64."""
        return self.timesteps.times(self.space)  # type: ignore[arg-type]  # start and end are all that these ask for

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """n draws (n, ...)."""
        field = PhaseField(self.space, self.predict)
        draws = self.integrator.sample(field, self.space.prior(n, self.spec.shape, self.like), self.grid)
        self.evaluations = float(field.calls)
        return draws

    def function_evaluations(self) -> float:
        """Evaluations of the network per draw in the last call of `sample`."""
        return self.evaluations

    def configure_optimizers(self) -> Any:
        return super().configure_optimizers() if self.exact is None else None
