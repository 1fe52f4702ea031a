"""A callback that writes down which records each step saw, and one that strikes at a chosen moment."""

from __future__ import annotations

import os
import signal
import zlib
from pathlib import Path
from typing import ClassVar

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


class Struck(RuntimeError):
    """The run was broken off on purpose."""


class Striker(Callback):
    """Breaks the run off at a chosen moment. Which one is no part of the config, so that the run's folder stays.

    Attributes:
        at: (hook, number of its call from 0), e.g. ("on_train_batch_end", 7); None: never.
        how: `raise` an error, `SIGTERM` to the own process, or `SIGKILL`.
        rank: which process is struck.
        calls: calls of the hook so far.
    """

    at: ClassVar[tuple[str, int] | None] = None
    how: ClassVar[str] = "raise"
    rank: ClassVar[int] = 0
    calls: ClassVar[int] = 0

    def _strike(self, hook: str, trainer) -> None:
        if Striker.at is None or Striker.at[0] != hook or trainer.global_rank != Striker.rank:
            return
        Striker.calls += 1
        if Striker.calls - 1 != Striker.at[1]:
            return
        if Striker.how == "raise":
            raise Struck(f"struck rank {trainer.global_rank} at {hook} {Striker.calls - 1}")
        os.kill(os.getpid(), getattr(signal, Striker.how))

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self._strike("on_train_batch_start", trainer)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self._strike("on_train_batch_end", trainer)

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self._strike("on_validation_batch_start", trainer)

    def on_validation_end(self, trainer, pl_module):
        self._strike("on_validation_end", trainer)

    def on_train_epoch_end(self, trainer, pl_module):
        self._strike("on_train_epoch_end", trainer)

    def on_test_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self._strike("on_test_batch_start", trainer)


def strike_from_environment() -> None:
    """STRIKE=hook:call:how:rank, for processes that were started by others."""
    if "STRIKE" in os.environ:
        hook, call, how, rank = os.environ["STRIKE"].split(":")
        Striker.at, Striker.how, Striker.rank = (hook, int(call)), how, int(rank)


strike_from_environment()
