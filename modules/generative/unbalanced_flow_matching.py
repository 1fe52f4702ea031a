"""Flow matching between two laws of data, whose records are paired by unbalanced optimal transport."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.source import Truth
from datamodules.spec import DataSpec
from modules.generative.gaussian.paths import along
from modules.generative.stochastic_interpolant import KnownDensity, law_of
from modules.method import Method

COUPLINGS = ("unbalanced", "independent")


class UnbalancedFlowMatching(Method):
    """Carries draws of a source law to the data along a velocity v, learned from pairs that belong together.

    In each batch of n source draws x and n records y, with costs C_ij = |x_i - y_j|^2 over their mean, the coupling

        P = argmin <C, P> + epsilon KL(P | a b') + lambda (KL(P 1 | a) + KL(P' 1 | b)),   a = b = 1/n,
        tau = lambda / (lambda + epsilon)

    gives n pairs (x, y) ~ P / sum P, and v minimises E |v(t, (1 - t) x + t y) - (y - x)|^2, t uniform. At tau = 1 P has
    the marginals a and b: OT-FM. Below, it may leave out what has no match at a fair price, such as outliers, or what
    one law has more of than the other; classes that differ in their shares then need not be mixed.

    Eyring et al. 2024, "Unbalancedness in Neural Monge Maps Improves Unpaired Domain Translation", section 4 (UOT-FM).

    Pairs are drawn with replacement and costs are divided by their mean as in the authors' code. Deviation: the flow is
    solved by the midpoint rule in `steps` steps instead of an adaptive solver.

    Args:
        spec: images or vectors, the target law.
        base: config of a source with an exact law, from which draws come.
        coupling: `unbalanced` (balanced at tau = 1), or `independent`: pairs by chance, plain flow matching.
        tau: how much marginals count, in (0, 1]. Default 0.95, the authors' code.
        epsilon: entropy, in units of the mean cost. Default 0.01, there.
        rounds: iterations of Sinkhorn's algorithm at most.
        steps: of the flow.
        parts: `net`, `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: an unknown coupling, tau or epsilon out of range.
    """

    batch_type = Unlabelled
    kinds = ("image", "vector")
    papers = ("eyring2024unbalancedness",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        base: Mapping[str, Any],
        coupling: Literal["unbalanced", "independent"] = "unbalanced",
        tau: float = 0.95,
        epsilon: float = 0.01,
        rounds: int = 200,
        steps: int = 16,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if coupling not in COUPLINGS:
            raise UserError(f"model.coupling={coupling} is unknown.", f"there are: {', '.join(COUPLINGS)}")
        if not 0 < tau <= 1 or epsilon <= 0:
            raise UserError(f"model.tau={tau} model.epsilon={epsilon}: tau is in (0, 1], epsilon above 0.")
        self.law: Truth = law_of(base)
        self.base = KnownDensity(self.law)
        self.coupling, self.tau, self.epsilon, self.rounds, self.steps = coupling, tau, epsilon, rounds, steps
        self.net = self.build(self.spec.shape, self.spec.shape, time=True)

    def loss(self, batch: Unlabelled) -> Tensor:
        x, y = self.pairs(self.base.sample(len(batch.x), like=batch.x), batch.x)
        t = torch.rand(len(x), device=x.device, dtype=x.dtype)
        return mse_loss(self.net(x + along(t, x) * (y - x), t), y - x)

    def pairs(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Draws x (n, ...) and records y (n, ...) -> n pairs of them."""
        if self.coupling == "independent":
            return x, y
        log_plan = coupled(costs(x, y), self.epsilon, self.tau, self.rounds)
        chosen = torch.multinomial(log_plan.flatten().softmax(0), len(x), replacement=True)
        return x[chosen // len(y)], y[chosen % len(y)]

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """n draws of the base, carried to the data (n, ...)."""
        return self.translate(self.base.sample(n, like=next(self.parameters())))

    @torch.no_grad()
    def translate(self, x: Tensor) -> Tensor:
        """Draws of the base (n, ...) -> what they become (n, ...)."""
        for i in range(self.steps):
            t, step = x.new_full((len(x),), i / self.steps), 1 / self.steps
            x = x + step * self.net(x + step / 2 * self.net(x, t), t + step / 2)
        return x


def costs(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances of x (N, ...) and y (M, ...) over their mean, (N, M)."""
    squares = torch.cdist(x.flatten(1), y.flatten(1)).square()
    return squares / squares.mean()


def coupled(cost: Tensor, epsilon: float, tau: float, rounds: int = 200, tolerance: float = 1e-4) -> Tensor:
    """Log of the unbalanced entropic coupling of evenly weighted points: costs (N, M) -> (N, M).

    Sinkhorn's algorithm in logarithms (Chizat et al. 2018, "Scaling Algorithms for Unbalanced Optimal Transport"):
    f_i = -tau epsilon log mean_j exp((g_j - C_ij) / epsilon), g likewise, until neither moves by `tolerance` epsilon.
    """
    n, m = cost.shape
    cost = cost / epsilon
    f, g = cost.new_zeros(n), cost.new_zeros(m)
    for _ in range(rounds):
        before = f
        f = -tau * ((g - cost).logsumexp(1) - math.log(m))
        g = -tau * ((f[:, None] - cost).logsumexp(0) - math.log(n))
        if (f - before).abs().max() < tolerance:
            break
    return f[:, None] + g - cost - math.log(n * m)
