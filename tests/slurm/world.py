"""A callback that writes down which processes train together."""

from __future__ import annotations

import json
import os
from pathlib import Path

from lightning.pytorch import Callback


class World(Callback):
    """A file per process: how many they are, and on which of SLURM's nodes it runs."""

    def on_train_start(self, trainer, pl_module):
        seen = {"world_size": trainer.world_size, "node": os.environ["SLURMD_NODENAME"]}
        Path(trainer.default_root_dir, f"world-{trainer.global_rank}.json").write_text(json.dumps(seen))
