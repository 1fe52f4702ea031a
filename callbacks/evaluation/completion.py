"""How good, and how different from each other, the completions of a picture are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from callbacks.evaluation.base import Evaluation, mean_of
from callbacks.metrics.precision import precise
from compendium.errors import UserError
from compendium.seeding import seeded
from datamodules.batches import Masked
from modules.capabilities import Inpainter


class Completion(Evaluation):
    """Figures of `draws` completions of each picture, over the hidden pixels.

    With d_ij the root of the mean squared difference over the hidden pixels of a picture, and R the range of pixels,

    - `psnr_best`, `psnr_mean`: the highest and the mean over the draws of 20 log10(R / d(draw, truth)), decibels.
    - `l1_best`: the lowest mean absolute difference to the truth, in units of R.
    - `completion_diversity`: mean of d between two draws of the same picture, in units of R; 0 where all are the same.

    Zheng et al. 2019, "Pluralistic Image Completion", section 5: the best of many draws, and their mean distance.
    Deviations: (1) the authors take the best ten of 50 draws by their discriminator's score, and the best of those to
    the truth; (2) their diversity is LPIPS, of a network trained on ImageNet; here it is the pixels'; (3) PSNR counts
    the hidden pixels alone: what is seen is copied.

    Args:
        draws: completions per picture, at least 2. Default 10.
        parts: the arguments of `Evaluation`.

    Raises:
        UserError: fewer than two draws.
    """

    capabilities = (Inpainter,)
    batch_type = Masked
    stages = ("test",)

    def __init__(self, draws: int = 10, **parts: Any) -> None:
        super().__init__(**parts)
        if draws < 2:
            raise UserError(f"{self.name}.draws={draws}: two at least make a difference.")
        self.draws = draws

    def misfit(self, method, spec):
        return None if spec.bounds is not None else "the range of the pixels is not known"

    def start(self, method, data) -> None:
        self.data = data
        names = ("psnr_best", "psnr_mean", "l1_best", "completion_diversity")
        self.means = {name: mean_of(method) for name in names}

    def update(self, method, batch) -> None:
        positions = self.positions(self.data)
        # A stream per batch of each process: more processes draw other completions of the same quality.
        with seeded(self.data.seed, "complete", int(positions[0])):
            drawn = torch.stack([method.inpaint(*batch) for _ in range(self.draws)])
        low, high = self.data.spec.bounds
        hidden = precise(1 - batch.mask).expand_as(batch.x)
        count = hidden.sum((1, 2, 3))
        drawn, x = precise(drawn) / (high - low), precise(batch.x) / (high - low)
        off = ((drawn - x) * hidden).flatten(2)
        error = off.square().sum(2) / count
        psnr = -10 * error.clamp_min(1e-12).log10()
        # The squared distance of a to b is |a|^2 + |b|^2 - 2 <a, b>, for all pairs of draws of a picture at once.
        inner = torch.einsum("ibd,jbd->bij", off, off) / count[:, None, None]
        square = inner.diagonal(dim1=1, dim2=2)
        apart = (square[:, :, None] + square[:, None] - 2 * inner).clamp_min(0).sqrt()
        pairs = self.draws * (self.draws - 1)
        figures = {
            "psnr_best": psnr.amax(0),
            "psnr_mean": psnr.mean(0),
            "l1_best": (off.abs().sum(2) / count).amin(0),
            "completion_diversity": (apart - torch.diag_embed(apart.diagonal(dim1=1, dim2=2))).sum((1, 2)) / pairs,
        }
        for name, value in figures.items():
            self.means[name].update(value)

    def compute(self, method, data) -> Mapping[str, float]:
        return {name: float(mean.compute()) for name, mean in self.means.items()}
