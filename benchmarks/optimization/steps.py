"""Wall time of an optimizer's step on a transformer's weights, beside pytorch_optimizer's and torch's fused AdamW.

Gradients are there already, the same at every step: only the step counts. Those that decompose matrices do so at every
tenth step (SOAP) or every hundredth (Fira, GaLore), and a figure is the mean of so many steps.

    python -m benchmarks.optimization.steps [--pairs 7] [--large]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks.generative.peers import peer, table
from modules.networks.transformer import Transformer
from modules.optimization.fira import Fira
from modules.optimization.galore import GaLore
from modules.optimization.lamb import LAMB
from modules.optimization.lars import LARS
from modules.optimization.lion_k import LionK
from modules.optimization.soap import SOAP

SIZES = {"1M": {"width": 128, "depth": 5, "heads": 4}, "30M": {"width": 512, "depth": 9, "heads": 8}}
RANK = 32
LOW_RANK = {"rank": RANK, "update_proj_gap": 100, "scale": 0.25, "projection_type": "std"}
"""What pytorch_optimizer's Fira and GaLore take per group."""
LOW_RANK_NAMES = ("galore", "fira")
DECAY = 0.01
"""Weight decay of the others, ours and theirs: it is an operation of its own."""
OURS: dict[str, tuple[Callable[..., Any], int]] = {
    "lamb": (partial(LAMB, weight_decay=DECAY), 1),
    "lars": (partial(LARS, weight_decay=DECAY), 1),
    "lion": (partial(LionK, weight_decay=DECAY), 1),
    "soap": (partial(SOAP, weight_decay=DECAY), 10),
    "galore": (partial(GaLore, rank=RANK, refresh=100), 100),
    "fira": (partial(Fira, rank=RANK, refresh=100), 100),
}
"""Name -> (ours, steps from one decomposition to the next)."""
THEIRS = {"lamb": "Lamb", "lars": "LARS", "lion": "Lion", "soap": "SOAP", "galore": "GaLore", "fira": "Fira"}


def weights(size: dict[str, int]) -> list[torch.nn.Parameter]:
    """The weights of a transformer of bytes, with gradients."""
    torch.manual_seed(0)
    parameters = list(Transformer((256,), (256,), **size).parameters())
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    return parameters


def walk(optimizer: Any, steps: int) -> Callable[[], None]:
    """So many steps."""

    def run() -> None:
        for _ in range(steps):
            optimizer.step()

    return run


def grouped(name: str, parameters: list[torch.nn.Parameter]) -> list[Any]:
    """Parameters as pytorch_optimizer wants them: those with a projection in a group of their own."""
    if name not in LOW_RANK_NAMES:
        return parameters
    matrices = [one for one in parameters if one.dim() == 2 and min(one.shape) > RANK]
    others = [one for one in parameters if not any(one is matrix for matrix in matrices)]
    return [{"params": matrices, **LOW_RANK}, {"params": others}]


def main(pairs: int = 7, sizes: tuple[str, ...] = ("1M",), limit: int | None = None) -> None:
    """Print the tables.

    Args:
        pairs: timings of each.
        sizes: of the transformer.
        limit: most steps per timing; None: from one decomposition to the next.
    """
    theirs = peer("pytorch_optimizer")
    for size in sizes:
        for name, (ours, period) in OURS.items():
            steps = min(period, limit or period)
            rows = {}
            mine = partial(walk, ours(weights(SIZES[size])), steps)
            if theirs is not None:
                decay = {} if name in LOW_RANK_NAMES else {"weight_decay": DECAY}
                other = getattr(theirs, THEIRS[name])(grouped(name, weights(SIZES[size])), **decay)
                rows[f"{name}, {size}, pytorch_optimizer"] = (mine(), walk(other, steps))
            adamw = torch.optim.AdamW(weights(SIZES[size]), fused=True)
            rows[f"{name}, {size}, AdamW(fused)"] = (mine(), walk(adamw, steps))
            table(rows, pairs, steps)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--large", action="store_true")
    chosen = parser.parse_args()
    main(chosen.pairs, tuple(SIZES) if chosen.large else ("1M",))
