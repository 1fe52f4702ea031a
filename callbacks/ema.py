"""Exponential moving average of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from lightning.pytorch.callbacks import WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn


class EMA(WeightAveraging):
    """Evaluates, saves and ends with averaged weights: average <- decay * average + (1 - decay) * weights, per step.

    The first update copies the weights: the average begins at the first step, not at the initial weights. This is
    Lightning's own averaging, with the update of all tensors in one grouped call instead of one call per tensor.

    Args:
        decay: in [0, 1).
        warmup: first step after which the average begins to move.
    """

    def __init__(self, decay: float = 0.999, warmup: int = 0) -> None:
        super().__init__(use_buffers=True, multi_avg_fn=get_ema_multi_avg_fn(decay))
        self.warmup = warmup

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        return step_idx is not None and step_idx >= self.warmup

    @contextlib.contextmanager
    def averaged(self, pl_module: Any) -> Iterator[None]:
        """The method has the averaged weights inside the block, and its own again after it."""
        if self._average_model is None:
            yield
            return
        self._swap_models(pl_module)
        try:
            yield
        finally:
            self._swap_models(pl_module)

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        # Outside of a fit the checkpoint's weights are the average already.
        if self._average_model is not None:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)
