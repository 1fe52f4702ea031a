"""Sources that are written out, and a trainer of which only the share is real."""

from __future__ import annotations

from types import SimpleNamespace

import torch
import yaml

from compendium.config import choices, instantiate
from datamodules.datamodule import DataModule
from datamodules.source import Records, Source
from datamodules.spec import DataSpec


class Given(Source):
    """Records as they are handed over."""

    def __init__(self, records: Records) -> None:
        self.records = records

    def load(self) -> Records:
        return self.records


def numbered(count: int, classes: int = 0, **splits: torch.Tensor) -> Given:
    """Vectors (count, 1) that hold their own row number; row i is of class i % classes."""
    x = torch.arange(count).float()[:, None]
    spec = DataSpec("numbered", "vector", (1,), "class" if classes else None, tuple(map(str, range(classes))))
    return Given(Records(spec, {"x": x, "y": torch.arange(count) % classes} if classes else {"x": x}, splits=splits))


def text(*documents: str, **others: list[str]) -> Given:
    """Documents to train on, and those of other splits."""
    return Given(Records(DataSpec("text", "text", ()), documents={"train": list(documents), **others}))


def source_of(choice: str, **arguments: object) -> Source:
    """The source that `data=choice` builds, with some arguments changed."""
    return instantiate(yaml.safe_load(choices("data")[choice].read_text()) | arguments, where="data")


def attach(data: DataModule, rank: int = 0, world: int = 1, epoch: int = 0, batch: int = 0) -> DataModule:
    """Give a DataModule a trainer that stands at one batch of one epoch on one of several processes."""
    batches = SimpleNamespace(current=SimpleNamespace(completed=batch))
    data.trainer = SimpleNamespace(
        global_rank=rank,
        world_size=world,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
        current_epoch=epoch,
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=batches)),
    )
    return data
