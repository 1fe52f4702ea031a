"""Whether draws show what was asked for in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from callbacks.evaluation.base import Evaluation
from callbacks.evaluation.samples import CHUNK
from callbacks.metrics.distances import frechet
from compendium.seeding import seeded
from datamodules.batches import Captioned
from modules.capabilities import TextSampler


class Prompts(Evaluation):
    """Figures of a TextSampler's draws for the captions of the first n records of a split.

    - `prompt_frechet`: Fréchet distance between Gaussians fitted to the pixels of the draws and of those records;
      draws are cut off at the darkest and the brightest level, as a file of theirs would be.
    - those of the reader, where somebody can read captions off pictures: of `data=scenes` see
      `datamodules.sources.scenes.SceneReader`. The mean over all captions that ask for them; NaN if there is none.

    Draws have random streams of their own, a stream for every 250.

    Args:
        n: number of draws.
        parts: the arguments of `Evaluation`.
    """

    capabilities = (TextSampler,)
    batch_type = Captioned
    stages = ("test",)

    def __init__(self, n: int = 500, **parts: Any) -> None:
        super().__init__(**parts)
        self.n = n

    def start(self, method, data) -> None:
        self.data = data
        self.real = [torch.empty(0, *data.spec.shape)]
        self.captions = [torch.empty(0, data.spec.caption, dtype=torch.long)]
        self.order = [torch.empty(0, dtype=torch.long)]

    def update(self, method, batch) -> None:
        positions = self.positions(self.data)
        kept = (positions < self.n).to(batch.x.device)
        self.real.append(batch.x[kept].float().cpu())
        self.captions.append(batch.caption[kept].cpu())
        self.order.append(positions[kept.cpu()])

    def compute(self, method, data) -> Mapping[str, float]:
        order = torch.cat(self.order)
        real, captions = (self.in_order(torch.cat(parts), order) for parts in (self.real, self.captions))
        rank, world = data.share
        # Together, so that a process without a chunk has rows of the right shape to give.
        chunks, mine = [torch.empty(0, *data.spec.shape)], [torch.empty(0, dtype=torch.long)]
        for i, rows in enumerate(torch.arange(len(captions)).split(CHUNK)):
            if i % world == rank:
                with seeded(data.seed, "prompts", i):
                    chunks.append(method.sample_for(captions[rows].to(method.device)).float().cpu())
                mine.append(rows)
        drawn = self.in_order(torch.cat(chunks), torch.cat(mine))
        return self.on_rank_zero(lambda: self.compare(drawn, real, captions, data))

    def compare(self, drawn: Tensor, real: Tensor, captions: Tensor, data: Any) -> dict[str, float]:
        """Draws and records (n, ...) of captions (n, T) -> the figures."""
        low, high = data.spec.bounds
        distance = frechet(drawn.clamp(low, high).flatten(1), real.flatten(1)) if len(drawn) > 1 else torch.nan
        figures = {name: float(value.nanmean()) for name, value in judged(drawn, captions, data).items()}
        return {"prompt_frechet": float(distance), **figures}


def judged(x: Tensor, captions: Tensor, data: Any) -> dict[str, Tensor]:
    """Pictures (n, ...) as a method receives them, and captions (n, T) -> the reader's figures (n,), if any."""
    if data.reader is None:
        return {}
    low, high = data.spec.bounds
    texts = [data.words.decode(caption) for caption in captions]
    return data.reader.judge((x - low) / (high - low), texts)
