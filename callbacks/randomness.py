"""Every step draws what its place in the run says."""

from __future__ import annotations

from lightning import Callback

from compendium.seeding import reseed


class Randomness(Callback):
    """Re-seeds the global random states before each training step and each evaluation.

    What a step draws is a function of (seed, epoch, step, rank) and of nothing that happened before it: evaluating more
    often changes no training step, and a continued run draws what an uninterrupted one drew.

    Args:
        seed: the run's.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        reseed(self.seed, "train", trainer.current_epoch, batch_idx, trainer.global_rank)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx + 1 == trainer.num_training_batches:  # methods that solve do so now, before the epoch is validated
            reseed(self.seed, "epoch end", trainer.current_epoch)

    def on_train_epoch_end(self, trainer, pl_module):
        reseed(self.seed, "epoch end", trainer.current_epoch)

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        reseed(self.seed, "validate", batch_idx, trainer.global_rank)

    def on_test_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        reseed(self.seed, "test", batch_idx, trainer.global_rank)

    def on_predict_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        reseed(self.seed, "predict", batch_idx, trainer.global_rank)
