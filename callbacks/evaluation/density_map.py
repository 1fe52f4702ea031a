"""A picture of a density."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from callbacks.evaluation.base import Evaluation
from callbacks.evaluation.density import law_of_x
from callbacks.pictures import limits, plane, save
from compendium.errors import UserError
from compendium.seeding import seeded
from datamodules.batches import Unlabelled
from modules.capabilities import Density

CHUNK = 2048
"""Cells at a time."""


class DensityMap(Evaluation):
    """density.png: the density of a model over the plane, beside the exact one where that is known, in one scale.

    - `mass`: what the model's density amounts to within the frame, by the midpoint rule; about 1 for one that is
      normalised and lies where records are.

    Args:
        cells: per axis; None: no picture. 100 take 10,000 densities.
        parts: the arguments of `Evaluation`.

    Raises:
        UserError: fewer than two cells.
    """

    capabilities = (Density,)
    batch_type = Unlabelled
    stages = ("test",)

    def __init__(self, cells: int | None = None, **parts: Any) -> None:
        super().__init__(**parts)
        if cells is not None and cells < 2:
            raise UserError(f"{self.name}.cells={cells}: at least 2, or null.")
        self.cells = cells

    def misfit(self, method, spec):
        if self.cells is None:
            return "nobody asked for the picture (cells=null)"
        return None if spec.shape == (2,) else "the records are no points of the plane"

    def compute(self, method, data) -> Mapping[str, float]:
        return self.on_rank_zero(lambda: self.drawn(method, data))

    def drawn(self, method: Any, data: Any) -> dict[str, float]:
        """The picture, and the mass in it."""
        assert self.cells is not None
        with seeded(data.seed, "density map"):
            real = data.records(self.split, 1000).x.float().cpu()
        edges = [limits(column) for column in real.T]
        ticks = [low + (high - low) * (torch.arange(self.cells) + 0.5) / self.cells for low, high in edges]
        places = torch.cartesian_prod(*ticks)
        found = torch.cat([method.log_prob(part.to(method.device)).float().cpu() for part in places.split(CHUNK)])
        maps = {"model": found.exp()}
        law = law_of_x(data, self.split)
        if law is not None:
            maps["exact"] = law.log_prob(places).float().exp()
        figure, axes = plane(list(maps), data.spec, f"{data.spec.name}: density")
        top = float(list(maps.values())[-1].nan_to_num(0, 0, 0).max())
        for axis, values in zip(axes, maps.values(), strict=True):
            shown = values.nan_to_num(0, 0, 0).view(self.cells, self.cells).T.numpy()
            axis.imshow(shown, origin="lower", extent=(*edges[0], *edges[1]), vmin=0, vmax=top, cmap="viridis",
                        aspect="auto")  # fmt: skip
        save(figure, Path(data.trainer.default_root_dir) / "density.png")
        return {"mass": float(maps["model"].double().sum() * cell(edges, self.cells))}


def cell(edges: list[tuple[float, float]], cells: int) -> float:
    """The area of a cell."""
    area = 1.0
    for low, high in edges:
        area *= (high - low) / cells
    return area
