"""Gaussian paths from data to noise."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from compendium.errors import UserError

BISECTIONS = 80
"""Halvings of an interval: more than float64 can tell apart."""


class Path(ABC):
    """x_t = alpha(t) x_0 + sigma(t) eps with eps ~ N(0, I), from data at t = 0 to noise at t = `end`.

    A path is two functions of time. Give `alpha` and `sigma`, and `start` and `end`, and everything else follows: the
    derivatives by forward differentiation, the time of a noise ratio by bisection; a path that knows better says so,
    and one whose eps has another law gives `noise` and `log_noise`.
    All take t of any shape and answer in it; sigma / alpha must grow.

    Attributes:
        start: the smallest time that anything is evaluated at.
        end: the time at which sampling starts.
    """

    start: float = 1e-3
    end: float = 1.0

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """How much is left of the data."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise."""

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Derivatives of alpha and sigma."""
        t, one = t.clone(), torch.ones_like(t)  # forward differentiation refuses expanded numbers
        d_alpha, d_sigma = (torch.func.jvp(part, (t,), (one,))[1] for part in (self.alpha, self.sigma))
        return d_alpha, d_sigma

    def time_of(self, log_snr: Tensor) -> Tensor:
        """The time at which 2 ln(alpha / sigma) is `log_snr`, float64; times outside [start, end] are cut off."""
        return self.time_of_ratio((-0.5 * log_snr.double()).exp()).clamp(self.start, self.end)

    def time_of_ratio(self, ratio: Tensor) -> Tensor:
        """The time at which sigma / alpha is `ratio`, float64; outside [start, end] where it is not reached there."""
        low, high = (torch.full_like(ratio, bound) for bound in (self.start, self.end))
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            early = self.noise_ratio(middle) < ratio
            low, high = torch.where(early, middle, low), torch.where(early, high, middle)
        return (low + high) / 2

    def log_snr(self, t: Tensor) -> Tensor:
        """2 ln(alpha / sigma)."""
        return 2 * (self.alpha(t).log() - self.sigma(t).log())

    def noise_ratio(self, t: Tensor) -> Tensor:
        """sigma / alpha: the standard deviation of the noise in x_t / alpha."""
        return self.sigma(t) / self.alpha(t)

    def diffusion(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(f, g^2) of the forward process dx = f x dt + g dW whose marginals the path has.

        f = alpha' / alpha and g^2 = 2 sigma sigma' - 2 f sigma^2 (Kingma et al. 2021, appendix A).
        """
        d_alpha, d_sigma = self.rates(t)
        drift = d_alpha / self.alpha(t)
        return drift, 2 * self.sigma(t) * (d_sigma - drift * self.sigma(t))

    def conditioning(self, t: Tensor) -> Tensor:
        """What a network is told of the time, between 0 and 1."""
        return t / self.end

    def noised(self, data: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t = alpha x_0 + sigma eps (B, ...), of records and noise (B, ...) at times (B,)."""
        return along(self.alpha(t), data) * data + along(self.sigma(t), data) * noise

    def scaled(self, x: Tensor, t: Tensor, data_std: float) -> Tensor:
        """x_t (B, ...) at times (B,), over its standard deviation for data of standard deviation `data_std`."""
        return x / along(self.std(t, data_std), x)

    def std(self, t: Tensor, data_std: float) -> Tensor:
        """Standard deviation of x_t, for data of standard deviation `data_std`."""
        return (self.alpha(t).square() * data_std**2 + self.sigma(t).square()).sqrt()

    def noise(self, like: Tensor) -> Tensor:
        """Draws of eps, in the shape, precision and place of records `like` (B, ...)."""
        return torch.randn_like(like)

    def log_noise(self, noise: Tensor) -> Tensor:
        """Natural log of the density of eps (B,), at eps (B, ...)."""
        flat = noise.flatten(1)
        return -0.5 * (flat.square().sum(1) + flat.shape[1] * math.log(2 * math.pi))

    @property
    def prior_std(self) -> float:
        """Standard deviation of the noise that sampling starts from."""
        return float(self.sigma(torch.tensor(self.end, dtype=torch.float64)))


class VariancePreserving(Path):
    """alpha^2 + sigma^2 = 1 with the linear rate beta(t) = low + t (high - low) of Song et al. 2021 and DDPM.

    alpha(t) = exp(-(low t + (high - low) t^2 / 2) / 2); t is in [0, 1].

    Args:
        low: beta(0). Default 0.1, Song et al. 2021, appendix C.
        high: beta(1). Default 20, there.
    """

    def __init__(self, low: float = 0.1, high: float = 20.0) -> None:
        if not 0 <= low < high:
            raise UserError(f"path.low={low} path.high={high}: the rate of noise grows from low to high.")
        self.low, self.high = low, high

    prior_std = 1.0

    def _exponent(self, t: Tensor) -> Tensor:
        return -0.5 * (self.low * t + 0.5 * (self.high - self.low) * t.square())

    def alpha(self, t: Tensor) -> Tensor:
        return self._exponent(t).exp()

    def sigma(self, t: Tensor) -> Tensor:
        return (-torch.expm1(2 * self._exponent(t))).sqrt()

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        beta, alpha = self.low + t * (self.high - self.low), self.alpha(t)
        return -0.5 * beta * alpha, 0.5 * beta * alpha.square() / self.sigma(t)

    def time_of_ratio(self, ratio: Tensor) -> Tensor:
        exponent, slope = 0.5 * torch.log1p(ratio.square()), self.high - self.low
        return 2 * ((self.low**2 / 4 + slope * exponent).sqrt() - self.low / 2) / slope


class Cosine(Path):
    """alpha(t) = cos(pi/2 (t + s) / (1 + s)) / cos(pi/2 s / (1 + s)), sigma^2 = 1 - alpha^2 (Nichol and Dhariwal 2021).

    Args:
        offset: s, which keeps noise near t = 0 from vanishing too fast. Default 0.008, equation 17 there.
        end: the paper clips beta near t = 1, where alpha is 0; here sampling starts just before.
    """

    prior_std = 1.0

    def __init__(self, offset: float = 0.008, end: float = 0.998) -> None:
        self.offset, self.end = offset, end

    def alpha(self, t: Tensor) -> Tensor:
        scale = math.pi / 2 / (1 + self.offset)
        return torch.cos(scale * (t + self.offset)) / math.cos(scale * self.offset)

    def sigma(self, t: Tensor) -> Tensor:
        # 1 - cos^2(b) / cos^2(a) = sin(b - a) sin(b + a) / cos^2(a), which cancels nothing near t = 0.
        scale = math.pi / 2 / (1 + self.offset)
        product = torch.sin(scale * t) * torch.sin(scale * (t + 2 * self.offset))
        return product.sqrt() / math.cos(scale * self.offset)

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        scale, alpha = math.pi / 2 / (1 + self.offset), self.alpha(t)
        d_alpha = -scale * torch.sin(scale * (t + self.offset)) / math.cos(scale * self.offset)
        return d_alpha, -alpha * d_alpha / self.sigma(t)

    def time_of_ratio(self, ratio: Tensor) -> Tensor:
        scale = math.pi / 2 / (1 + self.offset)
        cosine = math.cos(scale * self.offset) / (1 + ratio.square()).sqrt()
        sine = (math.sin(scale * self.offset) ** 2 + (cosine * ratio).square()).sqrt()
        return torch.atan2(sine, cosine) / scale - self.offset


class VarianceExploding(Path):
    """alpha = 1, sigma(t) = low (high / low)^t for t in [0, 1] (Song et al. 2021, appendix C).

    Args:
        low: the smallest noise. Default 0.01, there.
        high: the largest, about the largest distance between two records (Song and Ermon 2020). Default 50, CIFAR-10.
    """

    start = 0.0

    def __init__(self, low: float = 0.01, high: float = 50.0) -> None:
        if not 0 < low < high:
            raise UserError(f"path.low={low} path.high={high}: noise grows from low to high, both above 0.")
        self.low, self.high = low, high

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return self.low * (math.log(self.high / self.low) * t).exp()

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(t), math.log(self.high / self.low) * self.sigma(t)

    def time_of_ratio(self, ratio: Tensor) -> Tensor:
        return (ratio / self.low).log() / math.log(self.high / self.low)


class NoiseLevel(Path):
    """alpha = 1, sigma(t) = t: time is the noise level itself (Karras et al. 2022, EDM).

    Args:
        low: the smallest noise level. Default 0.002, Table 1 there.
        high: the largest. Default 80, there.
    """

    def __init__(self, low: float = 0.002, high: float = 80.0) -> None:
        if not 0 < low < high:
            raise UserError(f"path.low={low} path.high={high}: noise grows from low to high, both above 0.")
        self.start, self.end = low, high

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return t

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(t), torch.ones_like(t)

    def time_of_ratio(self, ratio: Tensor) -> Tensor:
        return ratio

    def conditioning(self, t: Tensor) -> Tensor:
        """ln t between its ends, where EDM takes ln(t) / 4: the networks here expect values from 0 to 1."""
        low, high = math.log(self.start), math.log(self.end)
        return (t.log() - low) / (high - low)


class Linear(Path):
    """alpha = 1 - t, sigma = t: the conditional optimal transport path of flow matching (Lipman et al. 2023) and
    rectified flow (Liu et al. 2023), with time from data to noise.

    Args:
        end: sampling starts here; at 1, where nothing is left of the data, noise predictions tell nothing of it.
    """

    prior_std = 1.0

    def __init__(self, end: float = 0.999) -> None:
        self.end = end

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        return t

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return -torch.ones_like(t), torch.ones_like(t)

    def time_of_ratio(self, ratio: Tensor) -> Tensor:
        return ratio / (1 + ratio)


class Trigonometric(Path):
    """alpha = cos(pi t / 2), sigma = sin(pi t / 2) (Albergo and Vanden-Eijnden 2023; Salimans and Ho 2022).

    Args:
        end: sampling starts here, see `Linear`.
    """

    prior_std = 1.0

    def __init__(self, end: float = 0.999) -> None:
        self.end = end

    def alpha(self, t: Tensor) -> Tensor:
        return torch.cos(math.pi / 2 * t)

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sin(math.pi / 2 * t)

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return -math.pi / 2 * self.sigma(t), math.pi / 2 * self.alpha(t)

    def time_of_ratio(self, ratio: Tensor) -> Tensor:
        return ratio.atan() * 2 / math.pi


def distinct(t: Tensor) -> Tensor:
    """Times (B,), or the one number (1,) that was expanded to all of them, as in each step of a sampler."""
    return t[:1] if t.stride() == (0,) else t


def along(values: Tensor, x: Tensor) -> Tensor:
    """(B,) -> (B, 1, ...), to multiply the records of x (B, ...) in its own precision; a single number stays one."""
    if values.dim() == 0:
        return values
    return values.to(x.dtype).view(-1, *(1,) * (x.dim() - 1))
