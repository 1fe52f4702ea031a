"""Runs of every optimizer that asks a method for more than gradients, one after the other in the same processes.

python -m torch.distributed.run --standalone --nproc-per-node 2 -m tests.parallel.optimizers FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import yaml

from compendium.compose import compose
from compendium.config import choices, locate
from compendium.engine import execute
from compendium.run import Run
from modules.optimization.asking import asked
from tests.compendium.quick import CLASSIFIER

FEW = (*CLASSIFIER, "trainer=cpu", "trainer.max_epochs=1", "callbacks=bare", "logger=none", "datamodule.batch_size=64")


def asking() -> list[str]:
    """Those that evaluate the loss, want its value, or look at layers: others step alike where gradients are alike."""
    found = []
    for name, path in sorted(choices("optimizer").items()):
        target = yaml.safe_load(path.read_text(encoding="utf-8")).get("_target_")
        if target is None:
            continue
        kind = locate(target)
        if asked(kind) != "gradients" or hasattr(kind, "watch"):
            found.append(name)
    return found


def planned(name: str, folder: Path, *more: str) -> Run:
    """A run of an optimizer in `FOLDER/NAME`."""
    steps = ["optimizer.max_iter=5"] if name == "lbfgs" else []
    return Run.plan(compose([*FEW, *steps, *more, f"optimizer={name}", f"runs={folder / name}"]))


def weights(name: str, folder: Path) -> dict[str, torch.Tensor]:
    """What a run ended with."""
    (path,) = (folder / name).rglob("last.ckpt")
    return torch.load(path, weights_only=True)["state_dict"]


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for name in asking():
        run = planned(name, folder, "trainer.strategy=ddp", "trainer.devices=2")
        run.freeze()
        if code := execute(run):
            sys.exit(code)
