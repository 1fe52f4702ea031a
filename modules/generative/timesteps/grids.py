"""Schedules that are given by a formula or by hand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from compendium.errors import UserError
from modules.generative.gaussian.paths import Path


class Timesteps(ABC):
    """Where a sampler stops between the end of a path and its start.

    Args:
        steps: how many times, the first and the last included; a sampler that denoises at the end makes as many steps.

    Raises:
        UserError: fewer than 2.
    """

    def __init__(self, steps: int) -> None:
        if steps < 2:
            raise UserError(f"timesteps.steps={steps}: a first and a last time are two.")
        self.steps = steps

    @abstractmethod
    def place(self, path: Path, u: Tensor) -> Tensor:
        """u from 0 to 1, float64 (steps,) -> times from the path's end to its start."""

    def times(self, path: Path) -> Tensor:
        """Falling times, float64 (steps,); the ends are exactly the path's."""
        times = self.place(path, torch.linspace(0, 1, self.steps, dtype=torch.float64))
        times[0], times[-1] = path.end, path.start
        return times


class Uniform(Timesteps):
    """Equal distances in the path's own time."""

    def place(self, path: Path, u: Tensor) -> Tensor:
        return path.end + u * (path.start - path.end)


class Power(Timesteps):
    """Equal distances in t^(1 / power): denser near the data. `power` 2 is DDIM's quadratic schedule.

    Song et al. 2021, "Denoising Diffusion Implicit Models", appendix D.2.

    Args:
        steps: see `Timesteps`.
        power: at least 1.
    """

    def __init__(self, steps: int, power: float = 2.0) -> None:
        super().__init__(steps)
        self.power = power

    def place(self, path: Path, u: Tensor) -> Tensor:
        low, high = path.start ** (1 / self.power), path.end ** (1 / self.power)
        return (high + u * (low - high)) ** self.power


class NoiseRatio(Timesteps):
    """Equal distances in (sigma / alpha)^(1 / rho): EDM's schedule (Karras et al. 2022, equation 5).

    Args:
        steps: see `Timesteps`.
        rho: Default 7, there.
    """

    def __init__(self, steps: int, rho: float = 7.0) -> None:
        super().__init__(steps)
        self.rho = rho

    def place(self, path: Path, u: Tensor) -> Tensor:
        ends = path.noise_ratio(torch.tensor([path.end, path.start], dtype=torch.float64)) ** (1 / self.rho)
        return path.time_of_ratio((ends[0] + u * (ends[1] - ends[0])) ** self.rho)


class LogSNR(Timesteps):
    """Equal distances in ln(alpha / sigma) (Lu et al. 2022, DPM-Solver)."""

    def place(self, path: Path, u: Tensor) -> Tensor:
        ends = path.log_snr(torch.tensor([path.end, path.start], dtype=torch.float64))
        return path.time_of(ends[0] + u * (ends[1] - ends[0]))


class Given(Timesteps):
    """Times by hand, such as those that another run found to be best.

    Args:
        values: falling times within the path, its ends included.

    Raises:
        UserError: times that do not fall, or that leave the path.
    """

    def __init__(self, values: Sequence[float]) -> None:
        super().__init__(len(values))
        if any(later >= earlier for earlier, later in pairwise(values)):
            raise UserError(f"timesteps.values={list(values)}: times fall, from noise to data.")
        self.values = values

    def place(self, path: Path, u: Tensor) -> Tensor:
        times = torch.tensor(list(self.values), dtype=torch.float64)
        if times[0] > path.end or times[-1] < path.start:
            raise UserError(f"timesteps.values leaves the path, whose times go from {path.end} to {path.start}.")
        return times

    def times(self, path: Path) -> Tensor:
        return self.place(path, torch.empty(0))
