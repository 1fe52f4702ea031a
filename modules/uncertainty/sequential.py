"""Looking for the largest response of a pool of points, one measurement after the other."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from compendium.errors import UserError
from datamodules.batches import Candidates
from datamodules.spec import DataSpec
from modules.method import SolvedMethod


class SequentialSearch(SolvedMethod, ABC):
    """Acquires points of a pool, which is the batch, and sees no responses but theirs.

    A step is an acquisition: the first one of `initial` points at random, which are the same for all searches with the
    same seed, and any other one of the free point with the largest `score`. Of equal scores that point has it which
    comes first in the training split.

    Args:
        spec: vectors with a real response.
        acquisitions: at most so many points in all, the initial ones among them; steps beyond do nothing.
        initial: how many of them are chosen at random, at least 2; 6 in Lahlou et al. 2022 (`examples/SMO/main.py` of
            their code), with 50 more.
        parts: see `Method`.

    Raises:
        UserError: the target is not real, a value out of range.
    """

    batch_type = Candidates
    kinds = ("vector",)
    targets = ("real",)

    acquired: Tensor
    points: Tensor
    responses: Tensor

    def __init__(
        self, spec: DataSpec | Mapping[str, Any], acquisitions: int = 56, initial: int = 6, **parts: Any
    ) -> None:
        super().__init__(spec, **parts)
        if not 2 <= initial <= acquisitions:
            raise UserError(
                f"model.acquisitions={acquisitions} model.initial={initial}: 2 initial ones, and as many in all."
            )
        self.acquisitions, self.initial = acquisitions, initial
        self.register_buffer("acquired", torch.full((acquisitions,), -1))  # their rows, -1 for nothing yet
        self.register_buffer("points", torch.zeros(acquisitions, self.spec.dimensions, dtype=torch.float64))
        self.register_buffer("responses", torch.zeros(acquisitions, dtype=torch.float64))

    @abstractmethod
    def score(self, x: Tensor) -> Tensor:
        """Free points float64 (B, D) -> scores (B,), none of them NaN; called once for each acquisition."""

    def accumulate(self, batch: Candidates) -> None:
        columns = (batch.x.flatten(1), batch.y[:, None], batch.row[:, None])
        # All processes see the whole pool, in one order, and choose the same.
        pool = self.rows_of_all(torch.cat([column.double() for column in columns], 1))
        pool = pool[pool[:, -1].argsort()]
        pool = pool[~torch.isin(pool[:, -1].long(), self.acquired)]
        done = self.count()
        wanted = min(1 if done else self.initial, self.acquisitions - done, len(pool))
        if wanted > 0:
            score = self.score(pool[:, :-2]) if done else self.draws(len(pool))
            chosen = pool[score.sort(descending=True, stable=True).indices[:wanted]]
            self.acquire(chosen[:, :-2], chosen[:, -2], chosen[:, -1].long())

    def acquire(self, x: Tensor, y: Tensor, row: Tensor) -> None:
        """Take in points (n, D), their responses (n,) and rows int64 (n,)."""
        place = slice(self.count(), self.count() + len(row))
        self.points[place], self.responses[place], self.acquired[place] = x, y, row

    def draws(self, count: int) -> Tensor:
        """Uniform numbers (count,), the same on all processes."""
        return self.rows_of_all(torch.rand(count, device=self.device))[:count]

    def count(self) -> int:
        """Number of points that have been acquired."""
        return int((self.acquired >= 0).sum())

    def measured(self) -> tuple[Tensor, Tensor]:
        """The acquired points (n, D) and their responses (n,), float64."""
        return self.points[: self.count()], self.responses[: self.count()]

    def acquired_rows(self) -> Tensor:
        """See `Seeker`."""
        return self.acquired[: self.count()]


class ExpectedImprovement(SequentialSearch, ABC):
    """A search whose score is by how much a point's value is expected to lie above the best response so far:

        EI(x) = E max(0, f(x) - best) = s phi(z) + (mu - best) Phi(z),      z = (mu - best) / s

    if f(x) is from N(mu, s^2), phi and Phi the density and the distribution function of N(0, 1) (Mockus 1978; Jones et
    al. 1998, "Efficient global optimization of expensive black-box functions", equation 15). Its logarithm is compared,
    so that points still differ where all of EI is too small for a number.
    """

    @abstractmethod
    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Learn from the acquired points; x float64 (B, D) -> mu and s^2 (B,) each, in the response's own units."""

    def score(self, x: Tensor) -> Tensor:
        mean, variance = self.moments(x)
        return log_expected_improvement(mean, variance.sqrt(), self.measured()[1].max())


class NetworkSearch(ExpectedImprovement, ABC):
    """A search by networks, which learn anew at each acquisition, from where they are.

    Each learns by `steps` steps of the optimizer on the squares of all acquired points, y in units of its spread among
    them; the optimizer begins anew, and so does its schedule.

    Args:
        spec: vectors with a real response.
        steps: of the optimizer before each acquisition.
        parts: `net`, `optimizer`, `schedule`, and the arguments of `SequentialSearch`.

    Raises:
        UserError: fewer than one step.
    """

    def __init__(self, spec: DataSpec | Mapping[str, Any], steps: int = 100, **parts: Any) -> None:
        super().__init__(spec, **parts)
        if steps < 1:
            raise UserError(f"model.steps={steps}: a network learns by at least one step.")
        self.steps = steps

    def schedule_steps(self) -> int:
        return self.steps

    def learn(self, net: nn.Module, x: Tensor, y: Tensor, among: Tensor | None = None) -> None:
        """Fit a network, or K stacked ones, to points x (n, D) and responses y (n,) in units of their spread.

        Args:
            among: which points each of K networks learns from, bool (K, n); None: all.
        """
        x, y = x.float(), y.float()
        share = 1 / len(y) if among is None else among / among.sum(-1, keepdim=True)
        weights = [weight for weight in net.parameters() if weight.requires_grad]
        configured = self.descent(weights)
        schedule = None
        if isinstance(configured, dict):
            configured, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
        for _ in range(self.steps):
            with torch.enable_grad():
                loss = ((net(x).float().squeeze(-1) - y).square() * share).sum()
            for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                weight.grad = gradient
            configured.step()
            if schedule is not None:
                schedule.step()
        configured.zero_grad()


def log_expected_improvement(mean: Tensor, deviation: Tensor, best: Tensor) -> Tensor:
    """mu (...), s (...), at least 0, and the best value so far (...) -> ln EI (...), finite.

    With h(z) = phi(z) + z Phi(z) it is ln s + ln h(z); for z < -1 h is phi(z) (1 + z Phi(z) / phi(z)) by the scaled
    complementary error function, as in Ament et al. 2023, "Unexpected improvements to expected improvement", section 4.
    """
    deviation = deviation.double().clamp_min(1e-50)
    z = (mean.double() - best) / deviation
    log_phi = -0.5 * z.square() - 0.5 * math.log(2 * math.pi)
    near = log_phi.exp() + z * torch.special.ndtr(z)
    low = z.clamp_max(-1.0)
    rest = 1 + low * math.sqrt(math.pi / 2) * torch.special.erfcx(-low / math.sqrt(2))
    # 1 / z^2 - 3 / z^4 + ..., where the difference has lost its digits.
    rest = torch.where(low < -1e3, low.pow(-2), rest)
    return deviation.log() + torch.where(z > -1, near.clamp_min(1e-300).log(), log_phi + rest.log())
