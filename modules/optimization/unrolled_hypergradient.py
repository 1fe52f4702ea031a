"""Iterative differentiation: the hypergradient by reverse mode through the steps of the lower level."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from modules.optimization.bilevel import LOWER, UPPER, BilevelMethod


class UnrolledHypergradient(BilevelMethod):
    """ITD: the gradient of F(x, y_K) by x, where y_K are K = lower_steps gradient steps from where y was.

        y_{t+1} = y_t - rate grad_y g(x, y_t)
        v_K = grad_y F(x, y_K),   v_t = v_{t+1} - rate g_yy(x, y_t) v_{t+1}
        estimate = grad_x F(x, y_K) - rate sum_t g_xy(x, y_t) v_{t+1}

    It keeps K + 1 copies of the weights, and takes a second-order product for each step (Franceschi et al. 2017,
    "Forward and reverse gradient-based hyperparameter optimization"). The next step begins at y_K.

    Args:
        parts: see `BilevelMethod`.
    """

    def hypergradient(self, x: Tensor, batch: Any) -> Tensor:
        batches = self.lower_batches(batch, self.lower_steps)
        path = [self.y]
        for part in batches:
            path.append(path[-1] - self.lower_rate * self.gradients(LOWER, x, path[-1], part)[1])
        self.y = path.pop()
        estimate, v = self.gradients(UPPER, x, self.y, self.upper_records())
        for y, part in zip(reversed(path), reversed(batches), strict=True):
            by_x, by_y = self.products(x, y, v, part)
            estimate = estimate - self.lower_rate * by_x
            v = v - self.lower_rate * by_y
        return estimate
