"""h-calibration: probabilities of an event agree with its frequency among records of about the same probability."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compendium.errors import UserError
from modules.uncertainty.calibrators.base import Calibrator


class HCalibration(Calibrator):
    """A mixture of temperatures, fit so that windows of neighbouring probabilities are calibrated.

        p(x) = sum_m w_m softmax(a_m log p_0(x)),   a_m > 0,  w_m > 0 of sum 1
        T_e  = |mean over the events e' within `window` / 2 ranks of e of p_e' - y_e'|
        loss = mean over 15 clusters of probabilities of the mean over their events e of max(0, T_e - tolerance)

    where the events are the pairs of a record and a class, all in one list ordered by probability, y tells whether the
    class came true, and clusters are those of k-means on the line. The loss is the mean over c of that of the records
    of all classes but c. A mixture of temperatures keeps the order of the classes, and so the accuracy.

    Huang et al. 2025, "h-calibration: Rethinking Classifier Recalibration with Probabilistic Error-Bounded Objective";
    the loss as in the authors' code (`cluaceweighted` with windows of 200 and tolerance 1e-20, Adam at 0.005), which
    also says p (1 - y) - (1 - p) y for p - y. At the ends of the list the window has fewer events, and its sum is
    divided by the size of a whole one, as there.

    Deviations: (1) 16 temperatures where the authors search numbers and kinds of maps per data set. (2) Temperatures
    start evenly over (0, 2) and weights equal, not at random. (3) k-means starts at quantiles and takes `REFINEMENTS`
    rounds, where theirs starts at random. (4) A fixed number of steps, all records in each, without early stopping; the
    rate falls to zero by a cosine, where theirs falls at plateaus.

    Args:
        classes, records: see `Calibrator`.
        temperatures: in the mixture, 1 or more.
        window: events on both sides of an event together, an even number; 200.
        tolerance: error that is no error, in [0, 1).
        clusters: 15.
        steps: of Adam.
        lr: its rate; 0.05 by our choice, for fewer steps than the authors' 2000 at 0.005.

    Raises:
        UserError: numbers out of range.
    """

    raw_slope: Tensor
    raw_weight: Tensor

    papers = ("huang2025h",)
    REFINEMENTS = 10

    def __init__(
        self,
        classes: int,
        records: int,
        temperatures: int = 16,
        window: int = 200,
        tolerance: float = 1e-20,
        clusters: int = 15,
        steps: int = 200,
        lr: float = 0.05,
    ) -> None:
        super().__init__(classes, records)
        if min(temperatures, clusters, steps) < 1:
            raise UserError(
                f"model.calibrator: temperatures={temperatures}, clusters={clusters}, steps={steps}: at least 1 each."
            )
        if window < 2 or window % 2:
            raise UserError(f"model.calibrator.window={window}: an even number, 2 or more.")
        if not 0 <= tolerance < 1:
            raise UserError(f"model.calibrator.tolerance={tolerance}: in [0, 1).")
        self.window, self.tolerance, self.clusters, self.steps, self.lr = window, tolerance, clusters, steps, lr
        even = 2 * (torch.arange(temperatures, dtype=torch.float64) + 0.5) / temperatures
        self.register_buffer("raw_slope", even.log())
        self.register_buffer("raw_weight", torch.zeros(temperatures, dtype=torch.float64))

    def forward(self, log_proba: Tensor) -> Tensor:
        scaled = (self.raw_slope.exp()[:, None, None] * log_proba).log_softmax(2)
        return (scaled + self.raw_weight.log_softmax(0)[:, None, None]).logsumexp(0)

    def fit(self, log_proba: Tensor, y: Tensor) -> None:
        weights = [self.raw_slope.requires_grad_(True), self.raw_weight.requires_grad_(True)]
        optimizer = torch.optim.Adam(weights, lr=self.lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        with torch.enable_grad():
            for _ in range(self.steps):
                optimizer.zero_grad()
                self.loss(self(log_proba).exp(), y).backward()
                optimizer.step()
                schedule.step()
        for weight in weights:
            weight.requires_grad_(False)
            weight.grad = None

    def loss(self, p: Tensor, y: Tensor) -> Tensor:
        """Probabilities p (n, classes) and classes y int64 (n,) -> the loss ()."""
        ordered, order = p.flatten().sort()
        gap = ordered - F.one_hot(y, self.classes).flatten()[order]
        # A list of events per class that is left out, all cut from one order, the shorter ones filled up at the end.
        out = torch.arange(self.classes, device=y.device)[:, None]
        kept = y[order // self.classes] != out
        kept = kept[kept.any(1)]
        size = kept.sum(1, keepdim=True)
        place = kept.int().argsort(dim=1, descending=True, stable=True)[:, : int(size.max())]
        real = torch.arange(place.shape[1], device=y.device) < size
        error = self.errors(torch.where(real, gap[place], 0), size)
        cluster = clustered(torch.where(real, ordered.detach()[place], BEHIND), size, self.clusters, self.REFINEMENTS)
        sums, sizes = (
            value.new_zeros(len(place), self.clusters).scatter_add(1, cluster, value)
            for value in (error * real, real.to(error))
        )
        return (sums / sizes.clamp(min=1)).mean()

    def errors(self, gap: Tensor, size: Tensor) -> Tensor:
        """p - y of lists of events (L, n), 0 behind the first `size` (L, 1) of each -> max(0, T - tolerance) (L, n)."""
        half, count = self.window // 2, gap.shape[1]
        summed = nn.functional.pad(gap.cumsum(1), (1, 0))
        index = torch.arange(count, device=gap.device)
        inside = summed[:, (index + half + 1).clamp(max=count)] - summed[:, (index - half).clamp(min=0)]
        return F.relu(inside.abs() / (self.window + 1) - self.tolerance)


BEHIND = 2.0
"""Fills up lists of probabilities: larger than all."""


def clustered(ordered: Tensor, size: Tensor, clusters: int, rounds: int) -> Tensor:
    """k-means on the line by Lloyd's rounds, from quantiles.

    Args:
        ordered: lists of numbers in rising order (L, n); behind the first `size` of each, numbers larger than all.
        size: (L, 1), at least 1.
        clusters, rounds: how many.

    Returns:
        The cluster of each, int64 (L, n).
    """
    count = ordered.shape[1]
    real = torch.arange(count, device=ordered.device) < size
    summed = nn.functional.pad((ordered * real).cumsum(1), (1, 0))
    at = torch.linspace(0, 1, 2 * clusters + 1, device=ordered.device)[1::2]
    centre = ordered.gather(1, (at * (size - 1)).round().long())
    for _ in range(rounds):
        cut = torch.searchsorted(ordered, (centre[:, 1:] + centre[:, :-1]) / 2)
        cut = torch.cat([torch.zeros_like(size), cut, size], 1)
        inside = cut.diff(dim=1)
        centre = torch.where(inside > 0, summed.gather(1, cut).diff(dim=1) / inside.clamp(min=1), centre)
    return torch.searchsorted((centre[:, 1:] + centre[:, :-1]) / 2, ordered)
