"""Online imitation of an expert that swings up a pendulum: each step learns on the states that the policy visits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.method import Method

GRAVITY, LENGTH, MASS, STEP, TORQUE, FASTEST = 10.0, 1.0, 1.0, 0.05, 2.0, 8.0
"""Of Gymnasium's Pendulum-v1."""


def swing(state: Tensor, torque: Tensor) -> Tensor:
    """State (angle from upright, angular velocity) (B, 2), torque (B,) -> the state a moment later (B, 2).

    velocity += (3 g / (2 l) sin(angle) + 3 / (m l^2) torque) dt, within 8;  angle += velocity dt, as Pendulum-v1.
    """
    angle, velocity = state.unbind(1)
    pull = 3 * GRAVITY / (2 * LENGTH) * angle.sin() + 3 / (MASS * LENGTH**2) * torque.clamp(-TORQUE, TORQUE)
    velocity = (velocity + pull * STEP).clamp(-FASTEST, FASTEST)
    return torch.stack([angle + velocity * STEP, velocity], 1)


def expert(state: Tensor) -> Tensor:
    """State (B, 2) -> the expert's torque (B,): to the energy of the upright rest far from it, linear feedback near.

    With the energy e = velocity^2 / 2 + 3 g / (2 l) (cos(angle) - 1), which is 0 at the upright rest,
    torque = 2 tanh((1 - w) (-e velocity / 2) + w (-10 sin(angle) - 3 velocity)),  w = sigmoid(20 (cos(angle) - 0.9)).
    """
    angle, velocity = state.unbind(1)
    energy = 0.5 * velocity.square() + 3 * GRAVITY / (2 * LENGTH) * (angle.cos() - 1)
    near = torch.sigmoid(20 * (angle.cos() - 0.9))
    return TORQUE * torch.tanh((1 - near) * -0.5 * energy * velocity + near * (-10 * angle.sin() - 3 * velocity))


def observed(state: Tensor) -> Tensor:
    """State (B, 2) -> what a policy sees (B, 3): cosine and sine of the angle, velocity over 8."""
    angle, velocity = state.unbind(1)
    return torch.stack([angle.cos(), angle.sin(), velocity / FASTEST], 1)


class OnlineImitation(Method):
    """A policy, torque = net(observation), that swings from each record of a batch for `horizon` moments and learns

        loss = 1/2 mean over visited states s of (net(o(s)) - expert(s))^2

    where the states are constants: at each step other ones, those that the policy of the step visits. A record is a
    state, the angle from upright and the velocity. With SSO as the optimizer the expert is asked once for many steps
    of the weights; the loss has a Hessian of 1 in the torque, hence eta = 1.

    Lavington et al. 2023, "Target-based Surrogates for Stochastic Optimization", whose second kind of problem this is,
    after DAgger (Ross, Gordon and Bagnell 2011) with no share of the expert in what is done.

    Deviations: (1) Gymnasium's pendulum, written out and batched, and an expert by hand in the place of MuJoCo's Hopper
    and Walker and of trained experts; (2) states of the step alone, as the authors' `SSO_OGD`, with no store of earlier
    ones.

    Args:
        spec: vectors of two numbers, in their own units.
        horizon: moments of 0.05 s, at least 1; 100 is half of an episode of Pendulum-v1.
        parts: `net`, `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: a horizon below 1, or records of another length.
    """

    batch_type = Unlabelled
    kinds = ("vector",)
    papers = ("lavington2023target",)

    def __init__(self, spec: DataSpec | Mapping[str, Any], horizon: int = 100, **parts: Any) -> None:
        super().__init__(spec, **parts)
        if horizon < 1:
            raise UserError(f"model.horizon={horizon}: at least 1.")
        self.horizon = horizon
        self.net = self.build((3,), (1,))

    @classmethod
    def check(cls, spec: DataSpec) -> None:
        super().check(spec)
        if math.prod(spec.shape) != 2:
            raise UserError(f"A pendulum starts from an angle and a velocity, and '{spec.name}' has {spec.shape}.")

    def act(self, observation: Tensor) -> Tensor:
        """observation (B, 3) -> torque (B,), which the pendulum takes within 2."""
        return self.net(observation).squeeze(1)

    @torch.no_grad()
    def visited(self, start: Tensor, follow: Any = None) -> Tensor:
        """Starts (B, 2) -> the states (horizon B, 2) that a policy acts in, its own or another of the state."""
        states = [start]
        for _ in range(self.horizon - 1):
            torque = self.act(observed(states[-1])) if follow is None else follow(states[-1])
            states.append(swing(states[-1], torque))
        return torch.cat(states)

    def loss(self, batch: Unlabelled) -> Tensor:
        states = self.visited(batch.x)
        return 0.5 * (self.act(observed(states)) - expert(states)).square().mean()

    def imitation(self, x: Tensor) -> dict[str, Tensor]:
        """Starts (B, 2) -> figures of each (B,), see `Imitator`."""
        own, other = (self.visited(x, follow).unflatten(0, (self.horizon, -1)) for follow in (None, expert))
        apart = self.act(observed(own.flatten(0, 1))) - expert(own.flatten(0, 1))
        return {
            "disagreement": 0.5 * apart.square().view(self.horizon, -1).mean(0),
            "height": own[..., 0].cos().mean(0),
            "expert_height": other[..., 0].cos().mean(0),
        }
