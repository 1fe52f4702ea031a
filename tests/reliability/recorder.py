"""A callback that writes down which records each step saw."""

from __future__ import annotations

import zlib
from pathlib import Path

from lightning import Callback


class Recorder(Callback):
    """Appends `epoch batch checksum` per training step to `order.txt` in the run folder."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        checksum = zlib.crc32(batch[0].contiguous().numpy().tobytes())
        with open(Path(trainer.default_root_dir) / "order.txt", "a") as file:
            file.write(f"{trainer.current_epoch} {batch_idx} {checksum}\n")


def order(folder: Path) -> dict[str, set[str]]:
    """Step -> the checksums that were seen at it; a step that was done again must have seen the same."""
    seen: dict[str, set[str]] = {}
    for line in (folder / "order.txt").read_text().splitlines():
        step, _, checksum = line.rpartition(" ")
        seen.setdefault(step, set()).add(checksum)
    return seen
