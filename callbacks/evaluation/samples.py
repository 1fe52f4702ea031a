"""How near a sampler's draws are to held-out records."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from lightning import LightningModule
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

FIGURES = ("sliced_wasserstein", "sliced_wasserstein_train", "mmd", "frechet", "frechet_real")

# The chunks that this process has drawn in the current pass, by (number, draws); beside the methods, as in `base`.
_DRAWN: WeakKeyDictionary[LightningModule, dict[tuple[int, int], Tensor]] = WeakKeyDictionary()


def draws_of(method: Any, data: Any, n: int) -> Tensor:
    """n draws (n, ...) of a Sampler, on the CPU: this process draws its chunks of `CHUNK`, and gets the others'.

    Chunk i has a random stream of its own: the draws depend on the seed of the data, and not on the number of
    processes. Within a pass of `OfDraws` a chunk is drawn once, whichever evaluations ask for it.
    """
    rank, world = data.share
    drawn = _DRAWN.get(method, {})
    order = torch.arange(n)
    chunks = [torch.empty(0, *data.spec.shape)]
    mine = [order[:0]]
    for i, rows in enumerate(order.split(CHUNK)):
        if i % world == rank:
            if (i, len(rows)) not in drawn:
                with seeded(data.seed, "sample", i):
                    drawn[i, len(rows)] = method.sample(len(rows)).float().cpu()
            chunks.append(drawn[i, len(rows)])
            mine.append(rows)
    return Evaluation.in_order(torch.cat(chunks), torch.cat(mine))


@contextmanager
def drawn_anew(method: Any) -> Iterator[None]:
    """Within it `draws_of` neither finds the draws of the pass nor keeps its own; they are there again after it."""
    drawn = _DRAWN.pop(method, None)
    try:
        yield
    finally:
        if drawn is not None:
            _DRAWN[method] = drawn


class OfDraws(Evaluation):
    """An evaluation of a Sampler's draws: all of them share what `draws_of` draws in a pass."""

    capabilities = (Sampler,)
    batch_type = Unlabelled
    stages = ("test",)

    def start(self, method, data) -> None:
        _DRAWN[method] = {}

    def on_validation_end(self, trainer, pl_module):
        _DRAWN.pop(pl_module, None)

    def on_test_end(self, trainer, pl_module):
        _DRAWN.pop(pl_module, None)


class BesideRecords(OfDraws):
    """n draws of a Sampler beside the first n records of a split, in the range the method receives.

    A subclass overrides `compare`, which process 0 does.

    Args:
        n: number of draws and of records.
        parts: the arguments of `Evaluation`.
    """

    def __init__(self, n: int = 1000, **parts: Any) -> None:
        super().__init__(**parts)
        self.n = n

    def compare(self, drawn: Tensor, real: Tensor, data: Any) -> dict[str, float]:
        """Draws (n, ...) and records (at most n, ...) -> the figures."""
        raise NotImplementedError

    def start(self, method, data) -> None:
        super().start(method, data)
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
        drawn = draws_of(method, data, self.n)
        return self.on_rank_zero(lambda: self.compare(drawn, real, data))


class Samples(BesideRecords):
    """Distances between n draws of a Sampler and the first n records of a split, in the range the method receives.

    - `sliced_wasserstein`: 2-Wasserstein over random directions, of the flattened records, in their units.
    - `sliced_wasserstein_train`: the same to the first n training records: what a sampler has fitted, where
      `sliced_wasserstein` is what that is worth.
    - `mmd`: unbiased squared maximum mean discrepancy of the flattened records, with a Gaussian kernel whose bandwidth
      is the median distance between real ones; can be slightly negative.
    - `frechet`: Fréchet distance between Gaussians fitted to features (see `callbacks.features.feature_space`).
    - `frechet_real`: the same with the first n training records in the place of the draws: what real records score,
      and so the floor of `frechet`. Few records bias all such estimates upwards; this one equally.

    See `callbacks.metrics.distances` for the formulas. Draws that are not finite make the figures NaN; so does a split
    of fewer than two records.

    Draws come from `draws_of`. Process 0 compares, and writes `samples.png` into the run folder.

    Args:
        n: number of draws and of records. Default 1000, a few seconds; papers' FIDs take 50000. On digits a perfect
            sampler's `frechet` then scatters between one and two times `frechet_real`: less than that tells nothing.
        directions: random directions of `sliced_wasserstein`.
        parts: the arguments of `Evaluation`.
    """

    def __init__(self, n: int = 1000, directions: int = 256, **parts: Any) -> None:
        super().__init__(n, **parts)
        self.directions = directions

    def compare(self, drawn: Tensor, real: Tensor, data: Any) -> dict[str, float]:
        """The figures, and the picture."""
        if min(len(drawn), len(real)) < 2:
            return dict.fromkeys(FIGURES, math.nan)
        title = f"{data.spec.name}: samples and real records ({self.split} split)"
        figure = panels({"samples": drawn, "real": real}, data.spec, title)
        save(figure, Path(data.trainer.default_root_dir) / "samples.png")
        with seeded(data.seed, "sample", "train"):
            train = data.records("train", self.n).x.float()
        features = feature_space(data)
        a, b = drawn.flatten(1), real.flatten(1)
        directions = projections(a.shape[1], self.directions)
        figures = {
            "sliced_wasserstein": sliced_wasserstein(a, b, directions),
            "sliced_wasserstein_train": sliced_wasserstein(a, train.flatten(1), directions),
            "mmd": squared_mmd(a, b, median_bandwidth(b)),
            "frechet": frechet(features(drawn), features(real)),
            "frechet_real": frechet(features(train), features(real)),
        }
        return {name: float(value) for name, value in figures.items()}
