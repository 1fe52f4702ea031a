"""How much an error counts at each time, and at which times training looks."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from compendium.errors import UserError
from modules.generative.gaussian.paths import Path
from modules.generative.gaussian.targets import TARGETS, target_of

MIN_SNR = 5.0
"""gamma of Min-SNR (Hang et al. 2023, section 4.1)."""


def weight_of(name: str, path: Path, t: Tensor, data_std: float = 1.0) -> Tensor:
    """The factor on the squared error of x_0 at times t.

    Args:
        name: a target (`noise`, `velocity`, `edm`, ...), whose own squared error then counts, (a - b alpha / sigma)^2
            times that of x_0; `likelihood`, which makes the loss the negative evidence bound in nats, up to a constant
            (-d snr / dt / 2 with snr = alpha^2 / sigma^2; Kingma et al. 2021, equation 17), for times that are
            uniform over a unit of time; or `min_snr`, min(snr, 5).
        path: of the noise.
        t: any shape.
        data_std: standard deviation of the data, for `edm`.

    Raises:
        UserError: an unknown weighting.
    """
    if name in TARGETS:
        target = target_of(name, path, t, data_std)
        return (target.a - target.b / path.noise_ratio(t)).square()
    if name not in OTHERS:
        raise UserError(f"model.weighting={name} is unknown.", f"there are: {', '.join((*TARGETS, *OTHERS))}")
    return OTHERS[name](path, t)


def likelihood(path: Path, t: Tensor) -> Tensor:
    """-d snr / dt / 2: with snr' = 2 snr (alpha' / alpha - sigma' / sigma)."""
    d_alpha, d_sigma = path.rates(t)
    return path.log_snr(t).exp() * (d_sigma / path.sigma(t) - d_alpha / path.alpha(t))


OTHERS: dict[str, Callable[[Path, Tensor], Tensor]] = {
    "likelihood": likelihood,
    "min_snr": lambda path, t: path.log_snr(t).exp().clamp_max(MIN_SNR),
}


def uniform(path: Path, u: Tensor) -> Tensor:
    """Times from uniform numbers: all alike."""
    return path.start + u * (path.end - path.start)


def lognormal(path: Path, u: Tensor, mean: float = -1.2, std: float = 1.2) -> Tensor:
    """Times at which ln(sigma / alpha) is normal: Table 1 of Karras et al. 2022, and its figures."""
    ratio = mean + std * math.sqrt(2) * torch.erfinv((2 * u.double() - 1).clamp(-1 + 1e-12, 1 - 1e-12))
    return path.time_of(-2 * ratio)


def log_snr(path: Path, u: Tensor) -> Tensor:
    """Times at which the log signal-to-noise ratio is uniform (Kingma and Gao 2023)."""
    ends = torch.tensor([path.start, path.end], dtype=torch.float64, device=u.device)
    high, low = path.log_snr(ends)
    return path.time_of(high + u.double() * (low - high))


TIMES: dict[str, Callable[[Path, Tensor], Tensor]] = {"uniform": uniform, "lognormal": lognormal, "log_snr": log_snr}


def law_of_times(name: str) -> Callable[[Path, Tensor], Tensor]:
    """The law of training times of a name: (path, uniform numbers) -> times.

    Raises:
        UserError: an unknown law.
    """
    if name not in TIMES:
        raise UserError(f"model.times={name} is unknown.", f"there are: {', '.join(TIMES)}")
    return TIMES[name]


def times_of(name: str, path: Path, n: int, like: Tensor) -> Tensor:
    """n random training times (n,), stratified: one in each n-th part of their law (Kingma et al. 2021, appendix I)."""
    u = (torch.randperm(n, device=like.device) + torch.rand(n, device=like.device)) / n
    return law_of_times(name)(path, u).to(like.dtype)
