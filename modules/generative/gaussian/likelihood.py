"""Likelihood along a flow: divergences, exact or estimated."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from modules.generative.gaussian.field import Field
from modules.hashing import GOLDEN, mixed

EXACT_TRACE = 8
"""Up to this many dimensions the divergence is exact; above, one probe a record."""


def log_prob(field: Field, x: Tensor, steps: int, exact_trace: int = EXACT_TRACE) -> Tensor:
    """Log density of x under the probability flow of a field, from the path's start to its end.

        log p(x) = log p_noise(x_end / prior_std) - D log prior_std + int_start^end div v(x_t, t) dt

    Song et al. 2021, "Score-Based Generative Modeling through Stochastic Differential Equations", equation 39. The
    flow is solved by torchdiffeq's Runge-Kutta method of fourth order at times of equal distance in ln(alpha / sigma),
    where it is smoothest. On mixtures 16 steps leave an error of 0.003 nats in the mean, 32 of 0.0003.

    Args:
        field: the model.
        x: (B, ...), as if seen at the path's start.
        steps: of the solver, four evaluations each.
        exact_trace: exact divergence up to this many dimensions, above it Hutchinson's estimator with one probe of
            random signs a record, see `signs_of`.

    Returns:
        Natural logs (B,).
    """
    from torchdiffeq import odeint

    path = field.path
    probe = None if x[0].numel() <= exact_trace else signs_of(x)
    ends = path.log_snr(torch.tensor([path.start, path.end], dtype=torch.float64))

    def flow(place: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        # In l = log snr: dx/dl = v dt/dl, with dt/dl = 1 / (2 (alpha' / alpha - sigma' / sigma)).
        t = path.time_of(place)
        d_alpha, d_sigma = path.rates(t)
        pace = 0.5 / (d_alpha / path.alpha(t) - d_sigma / path.sigma(t))
        return divergence(lambda y: pace * field.velocity(y, t), state[0], probe)

    span = torch.linspace(float(ends[0]), float(ends[1]), steps + 1, dtype=torch.float64)
    last, integral = (part[-1] for part in odeint(flow, (x, x.new_zeros(len(x))), span, method="rk4"))
    prior = path.log_noise(last / path.prior_std) - x[0].numel() * math.log(path.prior_std)
    return prior + integral


def divergence(field: Callable[[Tensor], Tensor], x: Tensor, probe: Tensor | None) -> tuple[Tensor, Tensor]:
    """A field and its divergence at x.

    Args:
        field: (B, ...) -> (B, ...), row by row.
        x: (B, ...).
        probe: e (B, ...) with E[e e'] = I for the estimate e' J e; None: the exact trace, by one forward derivative per
            dimension, all in one call.

    Returns:
        Values (B, ...) and divergences (B,).
    """
    if probe is not None:
        value, pull = torch.func.vjp(field, x)
        return value, (pull(probe)[0] * probe).flatten(1).sum(1)
    units = torch.eye(x[0].numel(), device=x.device, dtype=x.dtype).view(-1, 1, *x.shape[1:])

    def along_unit(unit: Tensor) -> Tensor:
        tangent = unit.expand_as(x)
        return (torch.func.jvp(field, (x,), (tangent,))[1] * tangent).flatten(1).sum(1)

    return field(x), torch.func.vmap(along_unit)(units).sum(0)


def signs_of(x: Tensor) -> Tensor:
    """Signs (B, ...) of mean zero, independent between components: a hash of each record (splitmix64 of its bits).

    They stand in for Rademacher draws, and make a record's likelihood the same in any batch and on any process.
    """
    bits = x.flatten(1).float().view(torch.int32).long()
    place = torch.arange(1, bits.shape[1] + 1, device=x.device)
    record = mixed(bits * GOLDEN + place).sum(1, keepdim=True)
    return (1 - 2 * (mixed(record + place * GOLDEN) & 1)).to(x.dtype).view_as(x)
