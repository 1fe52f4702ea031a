"""Rewards of records: what draws are to have more of. Each is a function of records (B, ...) with values (B,)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from compendium.config import instantiate
from compendium.errors import UserError
from modules.generative.gaussian.checkpoints import opened_for


class Reward(Protocol):
    """A number for each record, the more the better."""

    def __call__(self, x: Tensor) -> Tensor:
        """x (B, ...), as the model draws it -> rewards (B,)."""
        ...


class Near:
    """-scale |x - centre|^2 / 2: how near to a point. Where the law is a Gaussian, so is p(x) exp(reward).

    Args:
        centre: numbers of a record, or one for all of them.
        scale: of the squared distance.
    """

    def __init__(self, centre: Sequence[float] | float = 0.0, scale: float = 1.0) -> None:
        self.centre, self.scale = torch.tensor(centre, dtype=torch.float64), scale

    def __call__(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        return -0.5 * self.scale * (flat - self.centre.to(flat)).square().sum(1)


class Brightness:
    """The mean of a record's numbers: how bright a picture is."""

    def __call__(self, x: Tensor) -> Tensor:
        return x.flatten(1).mean(1)


class Bright:
    """The share of a record's numbers above a threshold, which has no slope.

    Args:
        threshold: in the units of the records.
    """

    def __init__(self, threshold: float = 0.0) -> None:
        self.threshold = threshold

    def __call__(self, x: Tensor) -> Tensor:
        return (x.flatten(1) > self.threshold).to(x.dtype).mean(1)


class Stairs:
    """Another reward, rounded down to whole steps: it has no slope, as a measurement has none.

    Args:
        reward: config of the other.
        step: height of a step.

    Raises:
        UserError: no height.
    """

    def __init__(self, reward: Mapping[str, Any], step: float = 1.0) -> None:
        if step <= 0:
            raise UserError(f"reward.step={step}: a height above 0.")
        self.reward: Reward = instantiate(reward, where="reward.reward")
        self.step = step

    def __call__(self, x: Tensor) -> Tensor:
        return (self.reward(x) / self.step).floor() * self.step


class Learned:
    """What a checkpoint of `model=generative/soft_value` expects of a record without noise: a slope for what has none.

    Args:
        value: the checkpoint.
    """

    def __init__(self, value: str) -> None:
        self.value = value

    def __call__(self, x: Tensor) -> Tensor:
        model = opened_for(self.value, x)
        return model.value_at(x, torch.full((len(x),), model.path.start, device=x.device, dtype=x.dtype))


class Token:
    """The share of a text's places that hold a token.

    Args:
        token: its number.
    """

    def __init__(self, token: int = 0) -> None:
        self.token = token

    def __call__(self, x: Tensor) -> Tensor:
        return (x == self.token).double().mean(1)


def named(reward: Mapping[str, Any] | None, where: str) -> Reward:
    """The reward of a config.

    Raises:
        UserError: none was named.
    """
    if reward is None:
        raise UserError(
            f"{where} names no reward.", f'"{where}={{_target_: modules.generative.rewards.Near, centre: 1.0}}"'
        )
    return instantiate(reward, where=where)
