"""Align Your Steps: the schedule of time steps that suits a model and its data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.analytic_diffusion import AnalyticDiffusion
from modules.generative.gaussian.checkpoints import frozen
from modules.generative.gaussian.model import GaussianModel
from modules.method import SolvedMethod

COARSEST = 10
"""Steps with which the search begins; longer schedules halve the steps of one that was found."""


class AlignYourSteps(GaussianModel, SolvedMethod):
    """Chooses the noise levels at which a trained model is evaluated, by what its draws lose between two of them.

    In y = x / alpha and r = sigma / alpha, a sampler that holds D(y, h) from r = h down to r = l commits at most

        klub(l, h) = int_l^h r^-3 E |D(y_r, r) - D(y_h, h)|^2 dr,     y_h = y_r + sqrt(h^2 - r^2) z

    nats of Kullback-Leibler divergence in that step, up to a factor: Girsanov's theorem for stochastic DDIM. The levels
    between the ends of the path minimise the sum over steps, one after the other among `candidates` places between its
    neighbours, until none moves. The expectation is over training records and fixed random numbers.

    Sabour et al. 2024, "Align Your Steps: Optimizing Sampling Schedules in Diffusion Models", section 3.

    Deviations: (1) r is drawn evenly in ln r in each step, where the paper fits an importance density; (2) the search
    ends when no level moves, where the paper stops early by the quality of draws; (3) ends are those of the path.

    Args:
        spec: images or vectors.
        model: checkpoint of a Gaussian diffusion model, whose path is `path`; None: the Gaussian with mean and
            covariance of the training records, fitted on the way.
        draws: random numbers per step in the expectation.
        candidates: places that are tried for a level, at least 3.
        rounds: passes over the levels at most.
        timesteps: its `steps` are how many levels there are, and where the search begins.
        parts: the arguments of `GaussianModel`.

    Raises:
        UserError: a model on another path, too few candidates.
    """

    levels: Tensor
    rows: Tensor
    seen: Tensor

    batch_type = Unlabelled
    papers = ("sabour2024align",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        timesteps: Mapping[str, Any],
        model: str | None = None,
        draws: int = 256,
        candidates: int = 11,
        rounds: int = 30,
        **parts: Any,
    ) -> None:
        super().__init__(spec, timesteps=timesteps, **parts)
        if candidates < 3:
            raise UserError(f"model.candidates={candidates}: at least 3, the level's own place and one on each side.")
        if model is None:
            axes = {name: parts[name] for name in ("path", "sampler", "guidance")}
            self.inner: GaussianModel = AnalyticDiffusion(spec, law="gaussian", timesteps=timesteps, **axes)
        else:
            self.inner = frozen(model, self.path, "model.model")
        self.fitted = model is None
        self.draws, self.candidates, self.rounds = draws, candidates, rounds
        self.register_buffer("levels", self.timesteps.times(self.path))
        self.register_buffer("rows", torch.zeros(draws, *self.spec.shape))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def denoise(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return self.inner.denoise(x, t, y)

    def accumulate(self, batch: Unlabelled) -> None:
        if self.fitted:
            self.inner.accumulate(batch)
        new = self.rows_of_all(batch.x.flatten(1)).view(-1, *self.spec.shape)[: self.draws - int(self.seen)]
        self.rows[int(self.seen) : int(self.seen) + len(new)] = new
        self.seen += len(new)

    def solve(self) -> None:
        if self.fitted:
            self.inner.solve()
        records = self.rows[: int(self.seen)]
        records = records[torch.arange(self.draws, device=records.device) % len(records)]
        self.numbers = torch.rand(self.draws, 1), torch.randn(2, *records.shape)
        steps, halvings = len(self.levels) - 1, 0
        while steps > COARSEST and steps % 2 == 0:
            steps, halvings = steps // 2, halvings + 1
        ratios = self.path.noise_ratio(self.levels).log()[:: 2**halvings]
        ratios = self.aligned(ratios, records)
        for _ in range(halvings):
            middles = (ratios[1:] + ratios[:-1]) / 2
            finer = torch.stack([ratios[:-1], middles], 1).flatten()
            ratios = self.aligned(torch.cat([finer, ratios[-1:]]), records)
        times = self.path.time_of_ratio(ratios.exp())
        times[0], times[-1] = self.path.end, self.path.start
        self.levels.copy_(times)

    def aligned(self, ratios: Tensor, records: Tensor) -> Tensor:
        """ln r of all levels, falling (n,), moved one by one to where the two steps beside them lose least."""
        ratios = ratios.clone()
        share = torch.linspace(0, 1, self.candidates + 2, dtype=torch.float64)[1:-1]
        for _ in range(self.rounds):
            before = ratios.clone()
            for i in range(1, len(ratios) - 1):
                high, low = ratios[i - 1], ratios[i + 1]
                tried = torch.cat([ratios[i : i + 1], low + share * (high - low)])
                lost = self.klub(tried, high.expand_as(tried), records)
                lost = lost + self.klub(low.expand_as(tried), tried, records)
                ratios[i] = tried[lost.argmin()]
            if torch.equal(ratios, before):
                break
        return ratios

    def klub(self, low: Tensor, high: Tensor, records: Tensor) -> Tensor:
        """What is lost in steps from ln r = high to low (K,) each -> nats, up to a factor (K,)."""
        u, (first, second) = self.numbers
        strata = (torch.arange(self.draws)[:, None] + u) / self.draws  # (N, 1)
        place = low + strata * (high - low)  # (N, K)
        r, h = (part.exp().to(records).unsqueeze(-1) for part in (place, high.expand_as(place)))
        flat = records.flatten(1)[:, None]
        near = flat + r * first.flatten(1)[:, None].to(records)
        far = near + (h.square() - r.square()).clamp_min(0).sqrt() * second.flatten(1)[:, None].to(records)
        data = [self.at(y, ratio) for y, ratio in ((near, r), (far, h))]
        rate = (data[0] - data[1]).square().sum(2) / r[..., 0].square()
        return rate.mean(0).double() * (high - low)

    def at(self, y: Tensor, ratio: Tensor) -> Tensor:
        """D (N, K, D) at y = x / alpha (N, K, D) and r (N, K, 1)."""
        t = self.path.time_of_ratio(ratio.flatten().double()).to(y)
        x = self.path.alpha(t)[:, None] * y.flatten(0, 1)
        return self.denoise(x.view(-1, *self.spec.shape), t).view_as(y)

    @property
    def grid(self) -> Tensor:
        """The times that were found, falling, float64."""
        return self.levels.cpu()

    @property
    def like(self) -> Tensor:
        return self.rows[:0]
