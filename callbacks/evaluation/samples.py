"""How near a sampler's draws are to held-out records."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from callbacks.evaluation.base import Evaluation
from callbacks.features import feature_space
from callbacks.metrics.distances import frechet, median_bandwidth, projections, sliced_wasserstein, squared_mmd
from callbacks.pictures import panels, save
from compendium.seeding import seeded
from datamodules.batches import Unlabelled
from modules.capabilities import Sampler

CHUNK = 250
"""Draws per call of `sample`: it shares the work out among up to n / 250 processes, and bounds the memory."""


class Samples(Evaluation):
    """Distances between n draws of a Sampler and the first n records of a split, in the range the method receives.

    - `sliced_wasserstein`: 2-Wasserstein over random directions, of the flattened records, in their units.
    - `mmd`: unbiased squared maximum mean discrepancy of the flattened records, with a Gaussian kernel whose bandwidth
      is the median distance between real ones; can be slightly negative.
    - `frechet`: Fréchet distance between Gaussians fitted to features (see `callbacks.features.feature_space`).
    - `frechet_real`: the same with the first n training records in the place of the draws: what real records score,
      and so the floor of `frechet`. Few records bias all such estimates upwards; this one equally.

    See `callbacks.metrics.distances` for the formulas. Draws that are not finite make the figures NaN; so does a split
    of fewer than two records.

    Draws come in chunks of `CHUNK`, chunk i from a random stream of its own: the figures depend on the seed of the
    data, and not on the number of processes. Process 0 compares, and writes `samples.png` into the run folder.

    Args:
        n: number of draws and of records. Default 1000, a few seconds; papers' FIDs take 50000. On digits a perfect
            sampler's `frechet` then scatters between one and two times `frechet_real`: less than that tells nothing.
        directions: random directions of `sliced_wasserstein`.
        parts: the arguments of `Evaluation`.
    """

    capabilities = (Sampler,)
    batch_type = Unlabelled
    stages = ("test",)

    def __init__(self, n: int = 1000, directions: int = 256, **parts: Any) -> None:
        super().__init__(**parts)
        self.n = n
        self.directions = directions

    def start(self, method, data) -> None:
        self.data = data
        self.real = [torch.empty(0, *data.spec.shape)]
        self.order = [torch.empty(0, dtype=torch.long)]

    def update(self, method, batch) -> None:
        positions = self.positions(self.data)
        kept = positions < self.n
        self.real.append(batch.x[kept.to(batch.x.device)].cpu())
        self.order.append(positions[kept])

    def compute(self, method, data) -> Mapping[str, float]:
        real = self.in_order(torch.cat(self.real), torch.cat(self.order))
        drawn = self.draw(method, data)
        return self.on_rank_zero(lambda: self.compare(drawn, real, data))

    def draw(self, method: Any, data: Any) -> Tensor:
        """n draws (n, ...), on the CPU: this process draws its chunks, and gets the others'."""
        rank, world = data.share
        order = torch.arange(self.n)
        chunks = [torch.empty(0, *data.spec.shape)]
        mine = [order[:0]]
        for i, rows in enumerate(order.split(CHUNK)):
            if i % world == rank:
                with seeded(data.seed, "sample", i):
                    chunks.append(method.sample(len(rows)).float().cpu())
                mine.append(rows)
        return self.in_order(torch.cat(chunks), torch.cat(mine))

    def compare(self, drawn: Tensor, real: Tensor, data: Any) -> dict[str, float]:
        """The figures, and the picture."""
        if min(len(drawn), len(real)) < 2:
            return dict.fromkeys(("sliced_wasserstein", "mmd", "frechet", "frechet_real"), math.nan)
        title = f"{data.spec.name}: samples and real records ({self.split} split)"
        figure = panels({"samples": drawn, "real": real}, data.spec, title)
        save(figure, Path(data.trainer.default_root_dir) / "samples.png")
        with seeded(data.seed, "sample", "train"):
            train = data.records("train", self.n).x.float()
        features = feature_space(data)
        a, b = drawn.flatten(1), real.flatten(1)
        figures = {
            "sliced_wasserstein": sliced_wasserstein(a, b, projections(a.shape[1], self.directions)),
            "mmd": squared_mmd(a, b, median_bandwidth(b)),
            "frechet": frechet(features(drawn), features(real)),
            "frechet_real": frechet(features(train), features(real)),
        }
        return {name: float(value) for name, value in figures.items()}
