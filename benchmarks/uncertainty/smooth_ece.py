"""Wall time of smooth ECE, beside relplot, the authors' package.

python -m benchmarks.uncertainty.smooth_ece [--pairs 5] [--records 1000000]
"""

from __future__ import annotations

import argparse

import torch

from benchmarks.generative.peers import peer, table
from callbacks.metrics.calibration import smooth_ece


def forecasts(records: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Forecasts, even on [0, 1], of events that are likelier than they say below 1/2 and less likely above."""
    draw = torch.Generator().manual_seed(0)
    p = torch.rand(records, generator=draw, dtype=torch.float64)
    return p, (torch.rand(records, generator=draw, dtype=torch.float64) < 0.1 + 0.8 * p).double()


def main(pairs: int = 5, sizes: tuple[int, ...] = (10_000, 1_000_000)) -> None:
    """Print the table, and how far the two figures are apart."""
    theirs = peer("relplot")
    if theirs is None:
        return
    rows = {}
    for records in sizes:
        p, y = forecasts(records)
        arrays = p.numpy(), y.numpy()
        apart = abs(smooth_ece(p, y) - float(theirs.smECE(*arrays)))
        rows[f"smooth ECE of {records:,} records"] = (
            lambda p=p, y=y: smooth_ece(p, y),
            lambda arrays=arrays: theirs.smECE(*arrays),
        )
        print(f"{records:,} records: the two figures differ by {apart:.1e}")
    table(rows, pairs, 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--records", type=int, nargs="*", default=[10_000, 1_000_000])
    arguments = parser.parse_args()
    main(arguments.pairs, tuple(arguments.records))
