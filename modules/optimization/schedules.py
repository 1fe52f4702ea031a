"""Learning rate schedules over a known number of steps.

Each function takes the optimizer and the number of optimizer steps of the run and gives a scheduler that is stepped
once per optimizer step. `warmup` and `at` are shares of the run in [0, 1], so that a schedule fits any budget.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, MultiStepLR

from compendium.errors import UserError


def cosine(optimizer: Optimizer, steps: int, warmup: float = 0.05, floor: float = 0.0) -> LRScheduler:
    """Rate * (floor + (1 - floor) (1 + cos(pi s)) / 2), s the share of the steps after a linear warm-up."""
    return decaying(optimizer, steps, warmup, floor, lambda share: (1 + math.cos(math.pi * share)) / 2)


def linear(optimizer: Optimizer, steps: int, warmup: float = 0.05, floor: float = 0.0) -> LRScheduler:
    """Rate * (floor + (1 - floor) (1 - s)), s the share of the steps after a linear warm-up."""
    return decaying(optimizer, steps, warmup, floor, lambda share: 1 - share)


def inverse(optimizer: Optimizer, steps: int, warmup: float = 0.05, offset: float = 0.1) -> LRScheduler:
    """Rate * offset / (offset + s), s the share of the steps after a linear warm-up: like 1/t well past the offset.

    The offset is a share of the run, above 0; without one the rate would halve from the first step to the second.
    """
    check_offset(offset)
    return decaying(optimizer, steps, warmup, 0.0, lambda share: offset / (offset + share))


def inverse_sqrt(optimizer: Optimizer, steps: int, warmup: float = 0.05, offset: float = 0.1) -> LRScheduler:
    """Rate * sqrt(offset / (offset + s)), s the share of the steps after a linear warm-up; offset as in `inverse`."""
    check_offset(offset)
    return decaying(optimizer, steps, warmup, 0.0, lambda share: math.sqrt(offset / (offset + share)))


def step(optimizer: Optimizer, steps: int, at: Sequence[float] = (0.5, 0.75), factor: float = 0.1) -> LRScheduler:
    """Rate * factor^k after the k-th of the shares `at`."""
    for share in at:
        check_share("at", share)
    return MultiStepLR(optimizer, milestones=[round(share * steps) for share in at], gamma=factor)


def decaying(
    optimizer: Optimizer, steps: int, warmup: float, floor: float, shape: Callable[[float], float]
) -> LRScheduler:
    """Linear warm-up from rate / (warm-up steps) to the rate, then `shape`, which is 1 at share 0, to share 1."""
    check_share("warmup", warmup)
    check_share("floor", floor)
    rising = round(warmup * steps)

    def factor(done: int) -> float:
        if done < rising:
            return (done + 1) / rising
        share = min((done - rising) / max(steps - rising, 1), 1.0)
        return floor + (1 - floor) * shape(share)

    return LambdaLR(optimizer, factor)


def check_share(name: str, value: float) -> None:
    """Refuse what is no share of the run."""
    if not 0 <= value <= 1:
        raise UserError(f"schedule.{name}={value} is a share of the run: between 0 and 1.")


def check_offset(value: float) -> None:
    """Refuse an offset at which the rate would not be finite."""
    if value <= 0:
        raise UserError(f"schedule.offset={value} is a share of the run, above 0.")
