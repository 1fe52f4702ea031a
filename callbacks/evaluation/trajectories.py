"""A picture of how draws come about."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from callbacks.evaluation.base import Evaluation
from callbacks.pictures import INK, limits, plane, save
from compendium.errors import UserError
from compendium.seeding import seeded
from datamodules.batches import Unlabelled
from modules.capabilities import TrajectorySampler


class Trajectories(Evaluation):
    """trajectories.png: the ways of n draws from noise, in grey, to where they end, over records. No figure.

    Of vectors of two components.

    Args:
        n: number of draws; None: no picture. 200 can be told apart.
        parts: the arguments of `Evaluation`.

    Raises:
        UserError: no draw.
    """

    capabilities = (TrajectorySampler,)
    batch_type = Unlabelled
    stages = ("test",)

    def __init__(self, n: int | None = None, **parts: Any) -> None:
        super().__init__(**parts)
        if n is not None and n < 1:
            raise UserError(f"{self.name}.n={n}: at least one draw, or null.")
        self.n = n

    def misfit(self, method, spec):
        if self.n is None:
            return "nobody asked for the picture (n=null)"
        return None if spec.shape == (2,) else "the records are no points of the plane"

    def compute(self, method, data) -> Mapping[str, float]:
        with seeded(data.seed, "trajectories"):
            self.on_rank_zero(lambda: self.drawn(method.trajectories(self.n).float().cpu(), data))
        return {}

    def drawn(self, states: Tensor, data: Any) -> None:
        """States (steps, n, 2) -> the picture."""
        with seeded(data.seed, "trajectories", "records"):
            real = data.records(self.split, 1000).x.float().cpu()
        title = f"{data.spec.name}: {states.shape[1]} draws in {len(states) - 1} evaluations"
        figure, (axis,) = plane(["from noise (light) to draws (dark)"], data.spec, title)
        states = states.nan_to_num(0, 0, 0)
        axis.scatter(*real.T.numpy(), s=4, color="#e08b2f", alpha=0.35, linewidths=0)
        axis.plot(*states.permute(2, 0, 1).numpy(), color="#8a97a6", linewidth=0.4, alpha=0.6)
        axis.scatter(*states[0].T.numpy(), s=3, color="#b8c2cc", linewidths=0)
        axis.scatter(*states[-1].T.numpy(), s=7, color=INK, linewidths=0, zorder=3)
        shown = torch.cat([states.flatten(0, 1), real])
        axis.set(xlim=limits(shown[:, 0]), ylim=limits(shown[:, 1]))
        save(figure, Path(data.trainer.default_root_dir) / "trajectories.png")
