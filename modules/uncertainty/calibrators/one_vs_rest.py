"""Calibrators of one class against the others: Platt's sigmoid, isotonic regression, histograms."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from compendium.errors import UserError
from modules.uncertainty.calibrators.base import OneVsRest, minimise


class Platt(OneVsRest):
    """q_k = sigmoid(a_k logit(p_k) + b_k), by likelihood (Platt 1999).

    Targets are (n_1 + 1) / (n_1 + 2) where the class came true, of n_1 records, and 1 / (n_0 + 2) elsewhere, of n_0:
    Platt's own correction, with which separated records have a best sigmoid too.
    """

    slope: Tensor
    bias: Tensor

    def __init__(self, classes: int, records: int) -> None:
        super().__init__(classes, records)
        events = len(range(classes)[self.events])
        self.register_buffer("slope", torch.ones(events, dtype=torch.float64))
        self.register_buffer("bias", torch.zeros(events, dtype=torch.float64))

    def fit(self, log_proba: Tensor, y: Tensor) -> None:
        score, happened = logit(log_proba.exp()[:, self.events]), self.happened(y)
        ones = happened.sum(0)
        target = torch.where(happened > 0, (ones + 1) / (ones + 2), 1 / (len(y) - ones + 2))
        self.slope.fill_(1)
        self.bias.zero_()
        minimise(
            lambda: F.binary_cross_entropy_with_logits(self.slope * score + self.bias, target), [self.slope, self.bias]
        )

    def frequency(self, p: Tensor) -> Tensor:
        return torch.sigmoid(self.slope * logit(p) + self.bias)


class Isotonic(OneVsRest):
    """q_k is the monotone function of p_k with the least squared error, by scikit-learn (Zadrozny and Elkan 2002).

    Between the records it was fit on it is linear, as in scikit-learn.
    """

    x: Tensor
    q: Tensor

    def __init__(self, classes: int, records: int) -> None:
        super().__init__(classes, records)
        events = len(range(classes)[self.events])
        # Knots (events, records), filled up by the last one: linear between them, constant outside.
        even = torch.linspace(0, 1, max(2, records), dtype=torch.float64).expand(events, -1)
        self.register_buffer("x", even.clone())
        self.register_buffer("q", even.clone())

    def fit(self, log_proba: Tensor, y: Tensor) -> None:
        p, happened = log_proba.exp()[:, self.events], self.happened(y)
        for event in range(p.shape[1]):
            for buffer, knots in zip((self.x, self.q), rising(p[:, event], happened[:, event]), strict=True):
                buffer[event] = knots[-1]
                buffer[event, : len(knots)] = knots

    def frequency(self, p: Tensor) -> Tensor:
        return between(self.x, self.q, p.T).T


class Histogram(OneVsRest):
    """q_k = (1 + records of class k in the bin of p_k) / (2 + records in it), bins of equally many records.

    Zadrozny and Elkan 2001, with Laplace's correction.

    Args:
        classes, records: see `Calibrator`.
        bins: 10, as there.

    Raises:
        UserError: less than one bin.
    """

    edges: Tensor
    q: Tensor

    def __init__(self, classes: int, records: int, bins: int = 10) -> None:
        super().__init__(classes, records)
        if bins < 1:
            raise UserError(f"model.calibrator.bins={bins}: there is at least one.")
        events = len(range(classes)[self.events])
        self.bins = bins
        even = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
        self.register_buffer("edges", even[1:-1].expand(events, -1).clone())
        self.register_buffer("q", ((even[1:] + even[:-1]) / 2).expand(events, -1).clone())

    def fit(self, log_proba: Tensor, y: Tensor) -> None:
        p, happened = log_proba.exp()[:, self.events].T.contiguous(), self.happened(y).T
        at = torch.linspace(0, 1, self.bins + 1).to(p)[1:-1]
        self.edges.copy_(p.quantile(at, dim=1).T)
        place = torch.searchsorted(self.edges, p)
        counts, true = torch.zeros_like(self.q), torch.zeros_like(self.q)
        counts.scatter_add_(1, place, torch.ones_like(p))
        true.scatter_add_(1, place, happened)
        self.q.copy_((1 + true) / (2 + counts))

    def frequency(self, p: Tensor) -> Tensor:
        return self.q.gather(1, torch.searchsorted(self.edges, p.T.contiguous())).T


def rising(p: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The monotone function of p with the least squared error to targets in [0, 1], both (n,): its knots (m,) each."""
    from sklearn.isotonic import IsotonicRegression

    curve = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(p.cpu().numpy(), target.cpu().numpy())
    return torch.from_numpy(curve.X_thresholds_), torch.from_numpy(curve.y_thresholds_)


def logit(p: Tensor) -> Tensor:
    """log(p / (1 - p)), of probabilities within 1e-12 of neither 0 nor 1."""
    return torch.logit(p, eps=1e-12)


def between(x: Tensor, q: Tensor, p: Tensor) -> Tensor:
    """Knots x (K, n), rising, and q (K, n), places p (K, B) -> values (K, B): linear between knots, else constant."""
    p = p.contiguous().clamp(x[:, :1], x[:, -1:])
    right = torch.searchsorted(x, p).clamp(1, x.shape[1] - 1)
    low, high = x.gather(1, right - 1), x.gather(1, right)
    below, above = q.gather(1, right - 1), q.gather(1, right)
    share = torch.where(high > low, (p - low) / (high - low).clamp(min=1e-300), 0)
    return below + share * (above - below)
