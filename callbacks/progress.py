"""A progress bar on a terminal."""

from __future__ import annotations

import time

from lightning import Callback
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress


class Progress(Callback):
    """Steps done, the loss, and the time that is left; drawn ten times a second at most, whatever a step takes."""

    SECONDS = 0.1

    def on_train_start(self, trainer, pl_module):
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.bar = RichProgress(*columns, auto_refresh=False, transient=True)
        self.bar.start()
        self.task = self.bar.add_task("training", total=self.total(trainer), completed=self.done(trainer))
        self.drawn = 0.0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        now = time.monotonic()
        if now - self.drawn < self.SECONDS:
            return
        self.drawn = now
        loss = pl_module.terms.get("loss")
        label = f"epoch {trainer.current_epoch + 1}" + (f"  loss {float(loss):.4g}" if loss is not None else "")
        self.bar.update(self.task, description=label, completed=self.done(trainer), refresh=True)

    def on_train_end(self, trainer, pl_module):
        self.bar.stop()

    def on_exception(self, trainer, pl_module, exception):
        if hasattr(self, "bar"):
            self.bar.stop()

    def on_test_start(self, trainer, pl_module):
        print("testing ...", flush=True)

    @staticmethod
    def total(trainer) -> int | None:
        """Batches of the whole fit; None where there is no end in sight."""
        batches, epochs, steps = trainer.num_training_batches, trainer.max_epochs, trainer.max_steps
        bounds = [batches * epochs] if epochs is not None and epochs >= 0 else []
        bounds += [steps * trainer.accumulate_grad_batches] if steps >= 0 else []
        return int(min(bounds)) if bounds and min(bounds) != float("inf") else None

    @staticmethod
    def done(trainer) -> int:
        """Batches done so far."""
        return trainer.fit_loop.epoch_loop.batch_progress.total.completed
