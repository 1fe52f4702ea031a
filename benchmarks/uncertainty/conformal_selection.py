"""Wall time of conformal selection: p-values beside crepes', the step-up procedure beside statsmodels'.

Both select the same records, which is printed; crepes' p-values are smoothed by draws of their own, so that they are
compared without. OptCS, which no package has, is timed alone: what one selection with K candidates takes.

    python -m benchmarks.uncertainty.conformal_selection [--pairs 5] [--records 1000 100000] [--smoke]
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.generative.peers import peer, seconds, table
from modules.uncertainty.conformal_selection import at_most, benjamini_hochberg
from modules.uncertainty.optimized_conformal_selection import sizes_with_each

LEVEL = 0.1
CANDIDATES = 11
"""As in Bai and Jin 2024."""


def scores(records: int, candidates: int = 1) -> tuple[Tensor, Tensor]:
    """Scores of labelled records and of a pool (candidates, records) each, whose upper tail is of interest."""
    draw = torch.Generator().manual_seed(0)
    labelled, pool = torch.randn(2, candidates, records, generator=draw, dtype=torch.float64)
    return labelled, pool - 3 * (torch.rand(records, generator=draw) < 0.2)


def p_values(labelled: Tensor, pool: Tensor) -> Tensor:
    """(1 + #{i : V_i <= W_j}) / (n + 1)."""
    return (1 + at_most(labelled, pool)).double() / (labelled.shape[-1] + 1)


def by_crepes(crepes: Any, labelled: np.ndarray, pool: np.ndarray) -> np.ndarray:
    """The same by crepes, whose scores are large where ours are small."""
    return crepes.ConformalClassifier().fit(-labelled).predict_p(-pool[:, None], smoothing=False)[:, 0]


def main(pairs: int = 5, sizes: tuple[int, ...] = (1_000, 100_000)) -> None:
    """Print the table, whether the selections agree, and what OptCS takes."""
    crepes, statsmodels = peer("crepes"), peer("statsmodels.stats.multitest")
    if crepes is None or statsmodels is None:
        return
    rows = {}
    for records in sizes:
        labelled, pool = (part[0] for part in scores(records))
        arrays = labelled.numpy(), pool.numpy()
        p = p_values(labelled, pool)
        array, chosen = p.numpy(), benjamini_hochberg(p, LEVEL)
        theirs = statsmodels.multipletests(by_crepes(crepes, *arrays), LEVEL, method="fdr_bh")[0]
        agree = "the same" if np.array_equal(chosen.numpy(), theirs) else "NOT the same"
        print(f"{records:,} records: {int(chosen.sum()):,} selected, {agree} as by crepes and statsmodels")
        rows[f"p-values, {records:,} of {records:,}"] = (
            lambda labelled=labelled, pool=pool: p_values(labelled, pool),
            lambda arrays=arrays: by_crepes(crepes, *arrays),
        )
        rows[f"step-up, {records:,}"] = (
            lambda p=p: benjamini_hochberg(p, LEVEL),
            lambda array=array: statsmodels.multipletests(array, LEVEL, method="fdr_bh"),
        )
    table(rows, pairs, 1)
    for records in sizes:
        labelled, pool = scores(records, CANDIDATES)
        taken = min(seconds(lambda parts=(labelled, pool): sizes_with_each(*parts, LEVEL)) for _ in range(pairs))
        print(f"OptCS, {CANDIDATES} candidates, {records:,} of {records:,}: {1000 * taken:.1f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--records", type=int, nargs="*", default=[1_000, 100_000])
    parser.add_argument("--smoke", action="store_true", help="one pair of 1,000 records")
    arguments = parser.parse_args()
    if arguments.smoke:
        main(1, (1_000,))
    else:
        main(arguments.pairs, tuple(arguments.records))
