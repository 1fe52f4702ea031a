"""A sampler with flaws of known kind and size: what evaluations of samplers are tried on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.method import SolvedMethod


class FlawedSampler(SolvedMethod):
    """Draws the training records again, with up to three flaws.

        x = x_i + noise * e,    e ~ N(0, I),    i uniform among the records that are kept

    Kept are the records of the first `classes` classes, and of each class the share `truncation` that lies nearest to
    the class's mean. So `noise` takes from the quality of the draws and leaves what they cover, `classes` the other
    way round, and `truncation` trades the one for the other, as truncation of a generator's noise does.

    After the experiments in section 3 of Kynkäänniemi et al. 2019, "Improved Precision and Recall Metric for Assessing
    Generative Models". Deviations: (1) the authors degrade StyleGAN's and BigGAN's pictures; (2) they truncate the
    generator's latents, while here the records themselves are chosen by their distance to the mean.

    Args:
        spec: images or vectors with a class.
        noise: standard deviation, in the range in which the method receives records.
        classes: number of classes that are drawn; None: all.
        truncation: share of each class that is drawn, in (0, 1].
        parts: see `Method`.

    Raises:
        UserError: a negative noise, no class or more than there are, a share outside (0, 1].
    """

    x: Tensor
    y: Tensor
    kept: Tensor
    seen: Tensor

    batch_type = Labelled
    kinds = ("image", "vector")
    targets = ("class",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        noise: float = 0.0,
        classes: int | None = None,
        truncation: float = 1.0,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        total = len(self.spec.classes)
        if noise < 0:
            raise UserError(f"model.noise={noise}: a standard deviation is at least 0.")
        if classes is not None and not 1 <= classes <= total:
            raise UserError(f"model.classes={classes}: the data have {total}, and one at least is drawn.")
        if not 0 < truncation <= 1:
            raise UserError(f"model.truncation={truncation}: it is a share of the records, above 0 and up to 1.")
        self.noise, self.classes, self.truncation = noise, total if classes is None else classes, truncation
        size = self.spec.sizes["train"]
        self.register_buffer("x", torch.zeros(size, *self.spec.shape))
        self.register_buffer("y", torch.zeros(size, dtype=torch.long))
        self.register_buffer("kept", torch.zeros(size))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def accumulate(self, batch: Labelled) -> None:
        x, y = self.rows_of_all(batch.x.flatten(1)), self.rows_of_all(batch.y[:, None])
        # A second pass brings the same records in another order.
        place = (self.seen + torch.arange(len(x), device=x.device)) % len(self.x)
        self.x[place] = x.reshape(-1, *self.spec.shape)
        self.y[place] = y.squeeze(1)
        self.seen += len(x)

    def solve(self) -> None:
        count = min(int(self.seen), len(self.x))
        x, y = self.x[:count].flatten(1).double(), self.y[:count]
        size = y.bincount(minlength=len(self.spec.classes))
        mean = torch.zeros(len(size), x.shape[1], dtype=x.dtype, device=x.device).index_add_(0, y, x)
        distance = (x - (mean / size.clamp(min=1)[:, None])[y]).norm(dim=1)
        # Ordered by class, and within a class by distance: the rank is the place since the class began.
        order = distance.argsort()
        order = order[y[order].argsort(stable=True)]
        rank = torch.empty_like(y)
        rank[order] = torch.arange(count, device=y.device) - (size.cumsum(0) - size)[y[order]]
        within = rank < (self.truncation * size).ceil()[y]
        self.kept.zero_()
        self.kept[:count] = (within & (y < self.classes)).to(self.kept)

    def sample(self, n: int) -> Tensor:
        """n draws (n, ...)."""
        drawn = (
            self.x[self.kept.multinomial(n, replacement=True)]
            if self.kept.any()
            else self.x.new_zeros(n, *self.spec.shape)
        )
        return drawn + self.noise * torch.randn_like(drawn)
