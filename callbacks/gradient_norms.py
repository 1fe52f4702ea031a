"""The norm of the gradient of every step, for whoever wants to know afterwards."""

from __future__ import annotations

from typing import Any

import torch
from lightning import Callback
from torch import Tensor
from torch.optim import Optimizer

from compendium.errors import UserError


class GradientNorms(Callback):
    """Keeps sum_i |g_i| and sqrt(sum_i g_i^2) of the gradient g of every step, and leaves them in the checkpoint.

    g is the gradient that the optimizer gets: the mean over an accumulation and over processes, unscaled, and before
    it is clipped. Of a method with several optimizers it is the gradient of one round, all players together. Norms stay
    on the device until a checkpoint is written.

    The checkpoint's state of this callback is {"gradient_norms": float32 (steps, 2)}, l1 before l2.

    Raises:
        UserError: gradients in shards, of which no process has the whole.
    """

    papers = ("defazio2023much",)

    def __init__(self) -> None:
        self.known = torch.zeros(0, 2)
        self.pending: list[Tensor] = []
        self.round: list[Tensor] = []
        self.hooks: list[Any] = []

    def on_train_start(self, trainer, pl_module):
        if "fsdp" in type(trainer.strategy).__name__.lower():
            raise UserError("gradients in shards have no norm here.", "Leave out callbacks.norms, or trainer=ddp")
        if not pl_module.automatic_optimization:  # no hook is called before these steps
            before = [optimizer.register_step_pre_hook(self.before_step) for optimizer in trainer.optimizers]
            self.hooks = before

    def before_step(self, optimizer: Optimizer, *arguments: Any) -> None:
        """Take in the gradient of a method that steps by itself."""
        self.take(optimizer)

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if pl_module.automatic_optimization:
            self.take(optimizer)

    def take(self, optimizer: Optimizer) -> None:
        """Sum of absolute values and of squares (2,) over all tensors of an optimizer that have a gradient."""
        groups = (group["params"] for group in optimizer.param_groups)
        gradients = [p.grad.detach().float() for group in groups for p in group if p.grad is not None]
        if not gradients:
            return
        sums = [torch.stack(torch._foreach_norm(gradients, order)) for order in (1, 2)]  # type: ignore[arg-type]
        self.round.append(torch.stack([sums[0].sum(), sums[1].square().sum()]))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if self.round:
            absolute, squares = torch.stack(self.round).sum(0).unbind()
            self.pending.append(torch.stack([absolute, squares.sqrt()]))
            self.round = []

    def on_train_end(self, trainer, pl_module):
        for hook in self.hooks:
            hook.remove()
        self.hooks = []

    def state_dict(self) -> dict[str, Tensor]:
        if self.pending:
            self.known = torch.cat([self.known, torch.stack(self.pending).cpu()])
            self.pending = []
        return {"gradient_norms": self.known}

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        self.known = state_dict["gradient_norms"].cpu()
