"""What a policy has gained from divergence, beside the most that it could have gained from as much."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from callbacks.evaluation.listed import ListedEvaluation
from callbacks.metrics.precision import precise
from callbacks.pictures import INK, save
from modules.capabilities import ReferencedPolicy
from modules.preference.optimum import best_of, divergence, tilted

BETAS = torch.logspace(-3, 3, 121, dtype=torch.float64)
"""Prices of divergence, in units of the spread of rewards, that the frontier is drawn at."""
DRAWS = tuple(2.0 ** (power / 4) for power in range(33))
"""Numbers n of draws, up to 256, whose best one is drawn beside it."""


class Frontier(ListedEvaluation):
    """frontier.png: gold reward against KL(pi | pi_ref) of a ReferencedPolicy whose answers can be listed, at each
    validation and in the end; beside the frontier, which no policy is above, and the best of n answers by gold reward.

    - `frontier_share`: by how much the gold reward lies above the reference's, over how much the frontier lies above it
      at the same divergence; 1 for pi_ref exp(r / beta) at any beta, NaN where the policy is the reference.

    The frontier is the KL and the reward of pi_ref exp(r / beta) for all beta, both means over prompts. Between the
    prices that were listed it is linear, and so a little below itself.

    Args:
        picture: whether there is one, and the figure with it; it takes half a second.
        parts: the arguments of `Evaluation`.
    """

    capabilities = (ReferencedPolicy,)

    def __init__(self, picture: bool = False, **parts: Any) -> None:
        super().__init__(**parts)
        self.picture = picture
        self.way: list[tuple[float, float]] = []

    def misfit(self, method, spec):
        return None if self.picture else "nobody asked for the picture (picture=false)"

    def compute(self, method, data) -> Mapping[str, float]:
        ids = self.texts(method, data)
        law, reference = (
            precise(listed(*ids)).cpu().log_softmax(1)
            for listed in (method.all_log_probs, method.all_reference_log_probs)
        )
        reward = data.world.reward
        here = place(law, reference, reward)
        if data.trainer.sanity_checking:
            return {}
        self.way.append(here)
        best = curve(reference, reward)
        start = float((reference.exp() * reward).sum(1).mean())
        if self.split == "test":
            self.on_rank_zero(lambda: self.drawn(best, reference, reward, data))
        most = at(best, here[0]) - start
        return {"frontier_share": (here[1] - start) / most if here[0] > 1e-9 and most > 0 else math.nan}

    def drawn(self, best: Tensor, reference: Tensor, reward: Tensor, data: Any) -> None:
        """The picture."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5.2, 4.2), dpi=150, layout="constrained")
        axes = figure.subplots()
        axes.plot(*best.T.numpy(), color="#8a97a6", label="pi_ref exp(r / beta): the frontier")
        draws = [place(best_of(reference, reward, n), reference, reward) for n in DRAWS]
        axes.plot(*zip(*draws, strict=True), color="#e08b2f", linestyle="--", label="the best of n answers")
        axes.plot(*zip(*self.way, strict=True), ".-", color=INK, linewidth=0.8, label="the policy, as it learned")
        axes.plot(*self.way[-1], "o", color=INK)
        right = 1.15 * max(max(kl for kl, _ in self.way), draws[-1][0], 1e-3)
        axes.set(xlabel="KL(pi | pi_ref), nats", ylabel="gold reward", xlim=(-0.02 * right, right))
        axes.set_title(f"{data.spec.name}: reward and what it cost", fontsize=10.5)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8, frameon=False, loc="lower right")
        save(figure, Path(data.trainer.default_root_dir) / "frontier.png")

    def state_dict(self) -> dict[str, Any]:
        return {"way": [list(one) for one in self.way]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.way = [(kl, reward) for kl, reward in state_dict["way"]]


def place(law: Tensor, reference: Tensor, reward: Tensor) -> tuple[float, float]:
    """ln pi, ln pi_ref and r (P, A) -> KL(pi | pi_ref) and E r, means over prompts."""
    return float(divergence(law, reference).mean()), float((law.exp() * reward).sum(1).mean())


def curve(reference: Tensor, reward: Tensor) -> Tensor:
    """ln pi_ref and r (P, A) -> KL and E r of pi_ref exp(r / beta) for many betas (B, 2), from the reference on."""
    spread = float(reward.std(unbiased=False)) or 1.0
    points = [place(tilted(reference, reward, float(beta) * spread), reference, reward) for beta in BETAS.flip(0)]
    return torch.tensor([place(reference, reference, reward), *points], dtype=torch.float64)


def at(frontier: Tensor, kl: float) -> float:
    """The frontier (B, 2) -> its reward at a divergence; what it ends with beyond its end."""
    return float(np.interp(kl, *frontier.T.numpy()))
