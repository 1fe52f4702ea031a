"""Training terms in the log, without a synchronisation per step."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning import Callback
from torch import Tensor

from compendium.errors import UserError


class NotFinite(UserError):
    """The loss became NaN or infinite."""


class TrainLog(Callback):
    """Logs the mean of every term of the loss over the last `every` steps, and stops a run whose loss is not finite.

    Terms stay on the device until they are due; then one transfer brings them all. What is pending is part of a
    checkpoint, so that a continued run logs the same means.

    Args:
        every: steps between two lines of the log.
    """

    def __init__(self, every: int = 50) -> None:
        if every < 1:
            raise UserError(f"callbacks.log.every={every}: at least 1 step lies between two lines of the log.")
        self.every = every
        self.pending: list[dict[str, Tensor]] = []
        self.first = 0
        self.offset = 0

    def on_train_start(self, trainer, pl_module):
        if trainer.logger is not None:
            trainer.logger.rewind(self.offset)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if not pl_module.terms:
            return
        if not self.pending:
            self.first = trainer.global_step
        self.pending.append(pl_module.terms)
        if len(self.pending) >= self.every:
            self.flush(trainer)

    def on_train_end(self, trainer, pl_module):
        self.flush(trainer)

    def flush(self, trainer: Any) -> None:
        """Log the means of what is pending."""
        terms = self.checked(trainer)
        self.pending = []
        if terms and trainer.logger is not None:
            means = {f"train/{name}": math.fsum(values) / len(values) for name, values in terms.items()}
            if trainer.optimizers and trainer.optimizers[0].param_groups:  # Lightning's stand-in for none has no group
                means["train/lr"] = trainer.optimizers[0].param_groups[0]["lr"]
            trainer.logger.log_metrics(means, step=trainer.global_step)

    def checked(self, trainer: Any) -> dict[str, list[float]]:
        """The pending values per term, on the host.

        Raises:
            NotFinite: one of them is NaN or infinite; says which step and term, and the last good checkpoint.
        """
        if not self.pending:
            return {}
        names = list(dict.fromkeys(name for terms in self.pending for name in terms))
        empty = torch.zeros((), device=self.pending[0][names[0]].device)
        table = torch.stack([torch.stack([terms.get(name, empty).float() for name in names]) for terms in self.pending])
        values = table.tolist()
        for row, step in zip(values, range(self.first, self.first + len(values)), strict=True):
            bad = [name for name, value in zip(names, row, strict=True) if not math.isfinite(value)]
            if bad:
                found = ", ".join(f"{name}={row[names.index(name)]}" for name in bad)
                raise self.not_finite(trainer, f"the loss is not finite at step {step}: {found}.")
        return {name: [row[column] for row in values] for column, name in enumerate(names)}

    @staticmethod
    def not_finite(trainer: Any, what: str) -> NotFinite:
        """The error, with what to go back to and what to try."""
        good = [cb.last_saved for cb in trainer.callbacks if hasattr(cb, "last_saved") and cb.last_saved]
        return NotFinite(
            what,
            f"last good checkpoint: {good[0] if good else 'none yet'}\n"
            "Try a smaller optimizer.lr, trainer.gradient_clip_val=1, or look for outliers in the data.",
        )

    def state_dict(self) -> dict[str, Any]:
        return {
            "pending": [{k: float(v) for k, v in terms.items()} for terms in self.pending],
            "first": self.first,
            "offset": self.offset,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.pending = [{k: torch.tensor(v) for k, v in terms.items()} for terms in state_dict["pending"]]
        self.first, self.offset = state_dict["first"], state_dict["offset"]

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        self.checked(trainer)
        weights = {name: weight.detach().isfinite().all() for name, weight in pl_module.named_parameters()}
        if weights and not torch.stack(list(weights.values())).all():  # a step from a finite loss to no finite weights
            name = next(name for name, finite in weights.items() if not finite)
            raise self.not_finite(trainer, f"the weights are not finite before step {trainer.global_step}: {name}.")
        # Lightning collects the callbacks' states before it calls this hook, so the offset is put in by hand.
        self.offset = trainer.logger.offset if trainer.logger is not None else 0
        checkpoint["callbacks"][self.state_key]["offset"] = self.offset
