"""Whether a picture that was put together shows where."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from callbacks.evaluation.samples import BesideRecords
from compendium.errors import UserError


class Seams(BesideRecords):
    """How much draws of a Sampler jump where patches meet.

    With s(x) the mean absolute difference of neighbouring pixels across the borders of patches, over that of all other
    neighbours,

    - `seam`: s(draws) / s(records); 1 where no border is seen, above it where the picture breaks there.

    Args:
        every: pixels from a border to the next; None: nothing is evaluated.
        n: number of draws and of records, cut down to the records that there are.
        parts: the arguments of `Evaluation`.

    Raises:
        UserError: patches of fewer than two pixels.
    """

    def __init__(self, every: int | None = None, n: int = 1000, **parts: Any) -> None:
        super().__init__(n, **parts)
        if every is not None and every < 2:
            raise UserError(f"{self.name}.every={every}: a patch has at least 2 pixels.")
        self.every = every

    def misfit(self, method, spec):
        if self.every is None:
            return "nobody said where patches meet (every=null)"
        if spec.kind != "image" or max(spec.shape[1:]) <= self.every:
            return "the records are no pictures of several patches"
        return super().misfit(method, spec)

    def compare(self, drawn: Tensor, real: Tensor, data: Any) -> dict[str, float]:
        assert self.every is not None
        return {"seam": jump(drawn, self.every) / jump(real, self.every)}


def jump(x: Tensor, every: int) -> float:
    """Pictures (n, C, H, W) -> mean |difference| of neighbours across borders, over that of all the others."""
    across, inside = [], []
    for dim in (2, 3):
        steps = x.diff(dim=dim).abs().transpose(dim, 0).flatten(1).double()
        border = (torch.arange(1, len(steps) + 1) % every == 0).to(x.device)
        across.append(steps[border].flatten())
        inside.append(steps[~border].flatten())
    return float(torch.cat(across).mean() / torch.cat(inside).mean())
