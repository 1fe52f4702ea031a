"""A learning rate schedule made from the gradient norms of an earlier run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from compendium.errors import UserError
from compendium.restore import read_checkpoint

COLUMNS = {"l1": 0, "l2": 1}
"""Norm -> its column in the record of `callbacks.gradient_norms.GradientNorms`."""


class Refined(LambdaLR):
    """The schedule that is best in the worst case for the gradient norms G_t that an earlier run has met.

        G^  = running median of G over a share `smoothing` of the run
        w_t = 1 / G^_t^2 with the Euclidean norm, 1 / G^_t with the sum of absolute values
        rate * w_t (w_{t+1} + ... + w_{T+1}) / the largest of these products,    t = 1, ..., T

    w_t minimises (D^2 + sum_t w_t^2 G_t^2) / (2 sum_t w_t), which bounds how far the last iterate of SGD is from the
    best loss, and the sum of the later weights turns a bound on an average into one on the last iterate. Norms that
    fall make a warm-up, norms that rise at the end make a sharper decay, and norms that do not change make the linear
    decay 1 - (t - 1) / T.

    The earlier run has the same model and data, any schedule with some decay (`linear`, say), and the callback
    `++callbacks.norms._target_=callbacks.gradient_norms.GradientNorms`. Where it had another number of steps, its
    filtered norms are interpolated linearly.

    Defazio et al. 2023, "When, Why and How Much? Adaptive Learning Rate Scheduling by Refinement", the refinement
    algorithms for SGD and for Adam; windows, padding and exponents as in the authors' code. The filter ends its record
    with the record's mirror image, and begins it with its first value repeated.

    Deviations: (1) the last weight is counted twice, for the gradient at the iterate after the last step, which nobody
    computes; the paper gives its last step a rate of 0 instead.

    Args:
        optimizer: as in any torch schedule.
        steps: of this run.
        norms: checkpoint of the earlier run.
        norm: `l1`, `l2`, or `auto`: l2 for SGD and l1 for all others, which are taken for relatives of Adam.
        smoothing: width of the median filter as a share of the earlier run, in [0, 1]; 0.1 as in the authors' code.

    Raises:
        UserError: no such checkpoint, one without norms, norms that are zero or not finite, a value out of range.
    """

    papers = ("defazio2023much",)

    def __init__(
        self, optimizer: Optimizer, steps: int, norms: str | Path, norm: str = "auto", smoothing: float = 0.1
    ) -> None:
        if norm not in ("auto", *COLUMNS):
            raise UserError(f"schedule.norm={norm}: it is auto, l1 or l2.")
        if norm == "auto":
            norm = "l2" if isinstance(optimizer, SGD) else "l1"
        known = recorded(norms)[:, COLUMNS[norm]]
        self.factors = [float(factor) for factor in refined(known, steps, 2 if norm == "l2" else 1, smoothing)]
        super().__init__(optimizer, self.factor)

    def factor(self, done: int) -> float:
        """What the rate is multiplied by after so many steps; 0 after the last one."""
        return self.factors[done] if done < len(self.factors) else 0.0


def recorded(path: str | Path) -> NDArray[np.float64]:
    """The norms (T, 2), l1 and l2, that a run has left in its checkpoint.

    Raises:
        UserError: it has left none.
    """
    states = read_checkpoint(path).get("callbacks", {}).values()
    found = [state["gradient_norms"] for state in states if "gradient_norms" in state]
    if not found or not len(found[0]):
        raise UserError(
            f"schedule.norms={path}: that run has recorded no gradient norms.",
            "Train it with ++callbacks.norms._target_=callbacks.gradient_norms.GradientNorms",
        )
    return found[0].double().numpy()


def refined(norms: NDArray[np.float64], steps: int, power: int, smoothing: float) -> NDArray[np.float64]:
    """Norms (T,) -> factors of the rate (steps,), the largest of which is 1.

    Args:
        norms: of the earlier run's gradients.
        steps: of the new run.
        power: 2 for Euclidean norms, 1 for sums of absolute values.
        smoothing: width of the median filter as a share of T.

    Raises:
        UserError: norms that are zero or not finite, a share out of range.
    """
    filtered = smoothed(norms, smoothing)
    if not (np.isfinite(filtered) & (filtered > 0)).all():
        raise UserError(
            "the norms that the schedule is refined from are zero or not finite.",
            "Refine the schedule of a run that trains, from the steps in which it does.",
        )
    if len(filtered) != steps:
        filtered = np.interp(np.linspace(0, 1, steps), np.linspace(0, 1, len(filtered)), filtered)
    weights = (filtered.min() / filtered) ** power  # of no unit: only their ratios count
    tails = np.cumsum(np.append(weights, weights[-1])[::-1])[::-1][1:]
    return weights * tails / (weights * tails).max()


def smoothed(norms: NDArray[np.float64], smoothing: float) -> NDArray[np.float64]:
    """Norms (T,) -> their running medians (T,) over 2 floor(smoothing T / 2) + 1 steps.

    Raises:
        UserError: a share out of range.
    """
    if not 0 <= smoothing <= 1:
        raise UserError(f"schedule.smoothing={smoothing} is a share of the run: between 0 and 1.")
    half = min(int(smoothing * len(norms)) // 2, len(norms) - 1)
    padded = np.pad(np.pad(norms, (half, 0), mode="edge"), (0, half), mode="reflect")
    return median_filter(padded, size=2 * half + 1)[half : half + len(norms)]
