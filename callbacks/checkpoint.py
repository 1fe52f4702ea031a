"""Checkpoints that a run continues from to the same bits."""

from __future__ import annotations

import contextlib
import math
import time
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint as LightningCheckpoint

from callbacks.ema import EMA
from compendium.errors import UserError
from compendium.interruption import Interrupted, interruption
from compendium.restore import read_checkpoint
from compendium.run import replacing, short

AGREE_EVERY = 10
"""Most batches between two agreements of several processes on whether to save or to stop; where batches are slow, an
agreement comes about every second."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint to a temporary name and renames it; reads tensors and plain values only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as temporary:
            try:
                torch.save(checkpoint, temporary)
            except RuntimeError as error:  # torch wraps a full disk into one of these
                raise OSError(str(error).splitlines()[0]) from error

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        return read_checkpoint(path, map_location)


class Checkpoint(LightningCheckpoint):
    """`last.ckpt` holds all that the run needs to continue, `best.ckpt` the weights that did best on `monitor`.

    The training state is only ever saved before a training step, where it is whole: all counters agree, nothing is
    accumulated, no validation is under way. Stopping on a signal happens at the same place.

    Args:
        every_seconds: save when this many seconds have passed since the last save; None: not by time.
        every_steps: save each time this many steps were made; None: not by steps.
        monitor: the figure that `best.ckpt` follows, e.g. validate/accuracy; None keeps no best.
        mode: whether `max` or `min` of it is best.
    """

    def __init__(
        self,
        every_seconds: float | None = 60.0,
        every_steps: int | None = None,
        monitor: str | None = None,
        mode: Literal["max", "min"] = "max",
    ) -> None:
        if mode not in ("max", "min"):
            raise UserError(f"callbacks.checkpoint.mode={mode}: max or min.")
        if every_steps is not None and every_steps < 1:
            raise UserError(f"callbacks.checkpoint.every_steps={every_steps}: at least 1.")
        self.every_seconds = every_seconds
        self.every_steps = every_steps
        self.monitor = monitor
        self.mode = mode
        self.best: float | None = None
        self.last_saved = ""
        self._clock = 0.0
        self._finished = False
        self._agree_at = 0
        self._agreed_on = (0, 0.0)

    def path(self, trainer: Any, name: str) -> Path:
        """Where `last` and `best` lie."""
        return Path(trainer.default_root_dir) / "checkpoints" / f"{name}.ckpt"

    def on_train_start(self, trainer, pl_module):
        interruption.install()
        self._clock = time.monotonic()
        self._agree_at, self._agreed_on = 0, (trainer.fit_loop.epoch_loop.batch_progress.total.completed, self._clock)
        # The step before which the state was saved begins once more; `check_val_every_n_epoch=null` counts by this.
        progress = trainer.fit_loop.epoch_loop.batch_progress
        progress.total.ready = progress.total.completed

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.fit_loop.epoch_loop.batch_progress.current.completed % trainer.accumulate_grad_batches:
            return  # gradients of a started accumulation are in no checkpoint
        step = trainer.global_step
        by_steps = self.every_steps is not None and step > 0 and step % self.every_steps == 0
        by_time = self.every_seconds is not None and time.monotonic() - self._clock > self.every_seconds
        stop, by_time = self._agreed(trainer, interruption.signum is not None, by_time)
        if stop or by_steps or by_time:
            self._save_last(trainer)
        if stop:
            raise Interrupted(interruption.signum or 15)

    def on_validation_start(self, trainer, pl_module):
        interruption.install()

    def on_validation_end(self, trainer, pl_module):
        if self.monitor is not None and trainer.state.fn == "fit":
            self._save_best(trainer)

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        if trainer.state.fn != "fit":
            self._stop_evaluation(trainer, batch_idx)

    def on_test_start(self, trainer, pl_module):
        interruption.install()

    def on_test_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self._stop_evaluation(trainer, batch_idx)

    def on_train_end(self, trainer, pl_module):
        self._finished = True
        self._save_last(trainer)

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        checkpoint["finished"] = self._finished
        # Lightning adds one to this counter when it restarts before a step; take it off beforehand.
        loop = checkpoint.get("loops", {}).get("fit_loop", {})
        progress = loop.get("epoch_loop.batch_progress")
        if progress:  # the state of the last validation: nothing goes by it, but a continued run would differ in it
            last = loop["epoch_loop.val_loop.batch_progress"]
            last |= {name: dict.fromkeys(last[name], 0) for name in ("total", "current")} | {"is_last_batch": False}
        if progress and not self._finished:
            state = loop["epoch_loop.state_dict"]
            ready = progress["current"]["ready"]
            last = ready == trainer.num_training_batches
            if last or ready % trainer.accumulate_grad_batches == 0:
                state["_batches_that_stepped"] -= 1

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]

    def _agreed(self, trainer: Any, *wishes: bool) -> list[bool]:
        """What any process wishes, all do, at the same step."""
        if trainer.world_size == 1:
            return list(wishes)
        batches = trainer.fit_loop.epoch_loop.batch_progress.total.completed
        if batches < self._agree_at:
            return [False] * len(wishes)
        now = time.monotonic()
        pace = (now - self._agreed_on[1]) / max(batches - self._agreed_on[0], 1)
        shared = torch.tensor([float(wish) for wish in wishes] + [pace], device=trainer.strategy.root_device)
        torch.distributed.all_reduce(shared, op=torch.distributed.ReduceOp.MAX)
        *flags, pace = shared.tolist()
        self._agreed_on = (batches, now)
        self._agree_at = batches + int(min(max(1 / max(pace, 1e-9), 1), AGREE_EVERY))
        return [bool(flag) for flag in flags]

    def _stop_evaluation(self, trainer: Any, batch_idx: int) -> None:
        """Evaluation has no state to save: the same command evaluates again."""
        # Processes can have different numbers of evaluation batches, so that they cannot agree; each stops by itself.
        if interruption.signum is not None:
            raise Interrupted(interruption.signum)

    def _save_last(self, trainer: Any) -> None:
        path = self.path(trainer, "last")
        trainer.save_checkpoint(path)
        self.last_saved = short(path)
        self._clock = time.monotonic()

    def _save_best(self, trainer: Any) -> None:
        value = trainer.callback_metrics.get(self.monitor)
        if value is None:
            raise UserError(
                f"callbacks.checkpoint.monitor={self.monitor}: no such figure was logged.",
                f"there are: {', '.join(sorted(trainer.callback_metrics))}",
            )
        better = self.best is None or (value > self.best if self.mode == "max" else value < self.best)
        if better and not math.isnan(value):
            self.best = float(value)
            with contextlib.ExitStack() as stack:  # the weights that were evaluated, where they are averaged
                for callback in trainer.callbacks:
                    if isinstance(callback, EMA):
                        stack.enter_context(callback.averaged(trainer.lightning_module))
                trainer.save_checkpoint(self.path(trainer, "best"), weights_only=True)
