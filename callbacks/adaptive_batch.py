"""A batch that grows as its gradient gets lost in noise."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning import Callback
from torch import Tensor

from compendium.errors import UserError

TESTS = ("norm", "coordinate")


class AdaptiveBatch(Callback):
    """Grows the batch by a test of its gradient; with AdaGrad it is AdAdaGrad, with its scalar variant AdAdaGradNorm.

    A step is made from n micro-batches of `datamodule.batch_size` = m records, b = n m records in all. Their gradients
    g_j have the mean g and, per coordinate c, the variance V_c = sum_j (g_jc - g_c)^2 / (n - 1), an unbiased estimate
    of 1 / m times the variance of single records. The batch passes the test of

    - `norm`, if sum_c V_c / n <= eta^2 |g|^2, and otherwise wants ceil(sum_c V_c / (eta^2 |g|^2)) micro-batches;
    - `coordinate`, if V_c / n <= eta^2 g_c^2 for every c, and otherwise wants ceil(max_c V_c / (eta^2 g_c^2)).

    m cancels: in records these are the paper's b >= Var / (eta^2 |g|^2). The batch never shrinks.

    The order of records is the DataModule's own, so that a step's records remain a function of seed, epoch and steps
    made; what changes is after how many micro-batches a step is made. A new number takes effect where it divides the
    number of micro-batches that were read in the epoch, up to the wanted number, and in full at the next epoch.

    Lau, Liu and Kolar 2024, "AdAdaGrad: Adaptive Batch Size Schemes for Adaptive Gradient Methods", the adaptive
    sampling of its two algorithms; the formula of the norm test as in the authors' code.

    Deviations: (1) variances are of micro-batches instead of single records, which needs no gradient per record and is
    a noisier estimate, the more so at small n; (2) sizes are multiples of m, and wait for a divisor as above; (3) one
    process; (4) schedules count the steps of a batch that does not grow, so that they end early; constant rates, as
    the paper's on MNIST, know nothing of it.

    Args:
        eta: what the noise may be, relative to the gradient; the paper has 0.1 to 0.5.
        start: micro-batches of the first step; at least 2, which a variance takes.
        largest: most micro-batches, cut down to those of an epoch.
        test: `norm` or `coordinate`.
        every: steps from one test to the next.

    Raises:
        UserError: a value out of range, a method that steps by itself, several processes, another accumulation.
    """

    papers = ("lau2024adadagrad",)

    def __init__(self, eta: float = 0.5, start: int = 2, largest: int = 64, test: str = "norm", every: int = 1) -> None:
        if eta <= 0:
            raise UserError(f"callbacks.adaptive_batch.eta={eta} is above 0.")
        if not 2 <= start <= largest:
            raise UserError(f"callbacks.adaptive_batch.start={start} lies between 2 and largest={largest}.")
        if test not in TESTS:
            raise UserError(f"callbacks.adaptive_batch.test={test}: there are {' and '.join(TESTS)}.")
        if every < 1:
            raise UserError(f"callbacks.adaptive_batch.every={every}: at least every step, 1.")
        self.eta, self.start, self.largest, self.test, self.every = eta, start, largest, test, every
        self.parts = self.wanted = start
        self.forget()

    def forget(self) -> None:
        """A new step begins: no gradient was seen of it."""
        self.count = 0
        self.seen: list[Tensor] = []
        self.squares: list[Tensor] = []

    def setup(self, trainer, pl_module, stage):
        if stage != "fit":
            return
        if not pl_module.automatic_optimization:
            raise UserError(f"{type(pl_module).__name__} steps by itself.", "Leave out callbacks.adaptive_batch.")
        if trainer.world_size > 1:
            raise UserError("callbacks.adaptive_batch works in one process.", "trainer.devices=1")
        if trainer.accumulate_grad_batches != 1:
            raise UserError("callbacks.adaptive_batch sets trainer.accumulate_grad_batches itself.", "leave it at 1")
        trainer.accumulate_grad_batches = self.start  # a schedule counts with this one, continued or not

    def on_train_start(self, trainer, pl_module):
        trainer.accumulate_grad_batches = self.parts
        self.forget()

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx % self.parts == 0 and self.wanted > self.parts:
            most = min(self.wanted, trainer.num_training_batches)
            self.parts = max([self.parts, *(n for n in range(self.parts, most + 1) if batch_idx % n == 0)])
            trainer.accumulate_grad_batches = self.parts

    def on_after_backward(self, trainer, pl_module):
        """Take in the gradient of a micro-batch: the difference of what is accumulated, 1 / parts of its own each."""
        if trainer.global_step % self.every == 0:
            now = [p.grad.detach().clone() for p in pl_module.parameters() if p.grad is not None]
            own = torch._foreach_sub(now, self.seen) if self.seen else now
            squares = torch._foreach_mul(own, own)
            self.squares = torch._foreach_add(self.squares, squares) if self.squares else squares
            self.seen = now
        self.count += 1

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if self.count > 1 and self.seen and self.wanted < self.largest:
            ratio = float(needed(self.seen, self.squares, self.count, self.eta, self.test))
            if ratio > self.parts:
                self.wanted = max(self.wanted, min(math.ceil(min(ratio, self.largest)), self.largest))
        if self.count < self.parts:  # the last step of an epoch has fewer: their mean all the same
            gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
            torch._foreach_mul_(gradients, self.parts / self.count)
        self.forget()

    def state_dict(self) -> dict[str, Any]:
        return {"parts": self.parts, "wanted": self.wanted}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.parts, self.wanted = state_dict["parts"], state_dict["wanted"]


def needed(total: list[Tensor], squares: list[Tensor], count: int, eta: float, test: str) -> Tensor:
    """How many micro-batches the test asks for, before rounding up; 0 where there is neither gradient nor noise.

    Args:
        total: sum of the gradients of `count` micro-batches, one tensor per weight, in any unit.
        squares: sum of their squares, in the square of that unit.
        count: at least 2.
        eta: of the test.
        test: `norm` or `coordinate`.
    """
    signals = [(one / count).square() for one in total]
    noises = [((q - count * s) / (count - 1)).clamp(min=0) for s, q in zip(signals, squares, strict=True)]
    if test == "norm":
        signal, noise = (torch.stack([one.sum() for one in parts]).sum() for parts in (signals, noises))
        return (noise / (eta**2 * signal)).nan_to_num(nan=0.0, posinf=math.inf)
    ratios = [noise / (eta**2 * signal) for signal, noise in zip(signals, noises, strict=True)]
    return torch.stack([ratio.nan_to_num(nan=0.0, posinf=math.inf).max() for ratio in ratios]).max()
