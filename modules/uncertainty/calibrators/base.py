"""What every calibrator has in common: a map of class probabilities that is fit after training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn


class Calibrator(nn.Module, ABC):
    """Maps log probabilities to calibrated ones. What it has learned lies in buffers, so that checkpoints hold it.

    Args:
        classes: how many.
        records: how many it is fit on, at most.
    """

    def __init__(self, classes: int, records: int) -> None:
        super().__init__()
        self.classes, self.records = classes, records

    @abstractmethod
    def fit(self, log_proba: Tensor, y: Tensor) -> None:
        """Learn from log probabilities (n, classes), float64, and classes y int64 (n,)."""

    @abstractmethod
    def forward(self, log_proba: Tensor) -> Tensor:
        """Log probabilities (B, classes), float64 -> calibrated ones (B, classes)."""


def minimise(loss: Callable[[], Tensor], parameters: Iterable[Tensor], steps: int = 200) -> None:
    """Move parameters, in place, to where a smooth loss is least: L-BFGS with the strong Wolfe conditions."""
    with torch.enable_grad():
        weights = [parameter.requires_grad_(True) for parameter in parameters]
        optimizer = torch.optim.LBFGS(
            weights, max_iter=steps, tolerance_grad=1e-9, tolerance_change=1e-14, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            value = loss()
            value.backward()
            return value

        optimizer.step(closure)  # type: ignore[arg-type]
    for weight in weights:
        weight.requires_grad_(False)
        weight.grad = None


class OneVsRest(Calibrator):
    """A calibrator of each class against the others: its frequency given its own probability alone.

        q_k = g_k(p_k),  calibrated p_k = q_k / sum_j q_j                (Zadrozny and Elkan 2002)

    Two classes are one event: g is fit for the second of them, and the first has the rest.

    Args:
        classes, records: see `Calibrator`.
        floor: smallest q_k, so that no class is impossible. 1e-6 by our choice.
    """

    floor = 1e-6

    @property
    def events(self) -> slice:
        """The classes that a map is fit for."""
        return slice(1, None) if self.classes == 2 else slice(None)

    @abstractmethod
    def frequency(self, p: Tensor) -> Tensor:
        """Probabilities (B, events) -> q (B, events)."""

    def forward(self, log_proba: Tensor) -> Tensor:
        q = self.frequency(log_proba.exp()[:, self.events])
        if self.classes == 2:
            q = torch.cat([1 - q, q], 1)
        q = q.clamp(min=self.floor)
        return (q / q.sum(1, keepdim=True)).log()

    def happened(self, y: Tensor) -> Tensor:
        """Classes y int64 (n,) -> whether each event came true, float64 (n, events)."""
        return nn.functional.one_hot(y, self.classes)[:, self.events].double()
