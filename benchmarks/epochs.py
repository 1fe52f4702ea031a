"""An epoch over digits: batches indexed in memory against `torch.utils.data.DataLoader`.

    python -m benchmarks.epochs [--epochs 50]

Both shuffle and yield the same number of batches of the same size; nothing is trained.
"""

from __future__ import annotations

import argparse
import statistics
import time

from torch.utils.data import DataLoader, TensorDataset

from datamodules.presentations.labelled import LabelledData
from datamodules.sources.digits import Digits


def epochs(loader, count: int) -> list[float]:
    """Seconds of each of `count` passes."""
    times = []
    for _ in range(count):
        started = time.perf_counter()
        for _batch in loader:
            pass
        times.append(time.perf_counter() - started)
    return times


def main(count: int = 50) -> None:
    """Print the table."""
    data = LabelledData(Digits(), batch_size=128)
    ours = data.train_dataloader()
    rows = data.rows["train"]
    batch = data.present({name: column[rows] for name, column in data.columns.items()}, "train")
    plain = TensorDataset(batch.x, batch.y)
    loaders = {
        "Compendium": ours,
        "DataLoader": DataLoader(plain, batch_size=128, shuffle=True, drop_last=True),
        "DataLoader, 2 workers": DataLoader(
            plain, batch_size=128, shuffle=True, drop_last=True, num_workers=2, persistent_workers=True
        ),
    }
    medians = {}
    for name, loader in loaders.items():
        epochs(loader, 2)
        medians[name] = statistics.median(epochs(loader, count))
    print(f"{'':<22} {'ms an epoch':>12} {'ratio':>7}")
    for name, value in medians.items():
        print(f"{name:<22} {value * 1e3:12.2f} {value / medians['Compendium']:7.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=50)
    main(parser.parse_args().epochs)
