"""How fast a search has found the largest response."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from callbacks.evaluation.base import Evaluation
from callbacks.pictures import INK, save
from datamodules.batches import Candidates
from modules.capabilities import Seeker


class Regret(Evaluation):
    """Figures of a Seeker on Candidates batches, where the largest mean of the response is known.

    The simple regret after t acquisitions is by how much the best of them lies below the largest value, of means and
    not of noisy responses.

    - `regret`: after the last acquisition.
    - `mean_regret`: its mean over all acquisitions, the initial ones among them: the area under its curve.
    - `acquisitions`: how many there were.

    regret.png is the curve, if asked for.

    Args:
        picture: whether there is one; it takes half a second.
        parts: the arguments of `Evaluation`.
    """

    capabilities = (Seeker,)
    batch_type = Candidates

    def __init__(self, picture: bool = False, **parts: Any) -> None:
        super().__init__(**parts)
        self.picture = picture

    def misfit_of_records(self, data):
        return None if "regret" in data.columns else "the largest value of the response is not known"

    def compute(self, method, data) -> Mapping[str, float]:
        rows = data.rows["train"][method.acquired_rows().cpu()]
        curve = simple_regret(data.columns["regret"][rows].double())
        if self.picture and self.split == "test" and len(curve):
            self.on_rank_zero(lambda: drawn(curve, data))
        last, mean = (float(curve[-1]), float(curve.mean())) if len(curve) else (math.nan, math.nan)
        return {"regret": last, "mean_regret": mean, "acquisitions": float(len(curve))}


def simple_regret(regret: Tensor) -> Tensor:
    """Regrets of points in the order of their acquisition (n,) -> the least so far (n,)."""
    return regret.cummin(0).values


def drawn(curve: Tensor, data: Any) -> None:
    """The picture of a curve (n,)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.6), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.step(torch.arange(1, len(curve) + 1).numpy(), curve.numpy(), where="post", color=INK)
    axes.set(xlabel="acquisitions", ylabel="regret", yscale="log" if float(curve.min()) > 0 else "linear")
    axes.set_title(f"{data.spec.name}: largest value less the best so far", fontsize=10.5)
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, Path(data.trainer.default_root_dir) / "regret.png")
