"""What a network predicts, and the one change of variables between all of it.

Given x_t = alpha x_0 + sigma eps, every usual target is a combination a(t) x_0 + b(t) eps. Two equations, two unknowns:
whatever is predicted, x_0 and eps follow, and with them every other target.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from compendium.errors import UserError
from modules.generative.gaussian.paths import Path, along


class Combination(NamedTuple):
    """a x_0 + b eps, with a and b in the shape of t."""

    a: Tensor
    b: Tensor

    def of(self, data: Tensor, noise: Tensor) -> Tensor:
        """The target of records and their noise, (B, ...) each."""
        return along(self.a, data) * data + along(self.b, data) * noise


def preconditioned(path: Path, t: Tensor, data_std: float) -> Combination:
    """EDM's: F with x_0 = c_skip x_t / alpha + c_out F, of unit variance for data of variance `data_std`^2.

    c_skip = s^2 / (r^2 + s^2) and c_out = r s / sqrt(r^2 + s^2), with s = `data_std` and r = sigma / alpha: Table 1 of
    Karras et al. 2022, for any path, because x_t / alpha is data with noise of standard deviation r. So
    F = (r x_0 - s^2 eps) / (s sqrt(r^2 + s^2)).
    """
    ratio = path.noise_ratio(t)
    scale = data_std * (ratio.square() + data_std**2).sqrt()
    return Combination(ratio / scale, -(data_std**2) / scale)


TARGETS: dict[str, Callable[[Path, Tensor, float], Combination]] = {
    "data": lambda path, t, s: Combination(torch.ones_like(t), torch.zeros_like(t)),
    "noise": lambda path, t, s: Combination(torch.zeros_like(t), torch.ones_like(t)),
    "score": lambda path, t, s: Combination(torch.zeros_like(t), -1 / path.sigma(t)),
    "velocity": lambda path, t, s: Combination(*path.rates(t)),
    "v": lambda path, t, s: Combination(-path.sigma(t), path.alpha(t)),
    "edm": preconditioned,
}
"""name -> (path, t, standard deviation of the data) -> combination. `velocity` is the drift alpha' x_0 + sigma' eps of
the probability flow, `v` is alpha eps - sigma x_0 (Salimans and Ho 2022), `edm` the preconditioned output of EDM."""


def target_of(name: str, path: Path, t: Tensor, data_std: float = 1.0) -> Combination:
    """The combination that a target is at times t.

    Raises:
        UserError: an unknown target.
    """
    if name not in TARGETS:
        raise UserError(f"model.target={name} is unknown.", f"there are: {', '.join(TARGETS)}")
    return TARGETS[name](path, t, data_std)


def data_of(value: Tensor, x: Tensor, t: Tensor, target: Combination, path: Path) -> Tensor:
    """x_0 from the value of a target at x_t, (B, ...)."""
    of_value, of_x = recovery(t, target, path)
    return along(of_value, x) * value + along(of_x, x) * x


def recovery(t: Tensor, target: Combination, path: Path) -> tuple[Tensor, Tensor]:
    """c and d such that x_0 = c value + d x_t: sigma and -b, over a sigma - b alpha."""
    alpha, sigma = path.alpha(t), path.sigma(t)
    scale = 1 / (target.a * sigma - target.b * alpha)
    return sigma * scale, -target.b * scale


def value_of(data: Tensor, x: Tensor, t: Tensor, target: Combination, path: Path) -> Tensor:
    """The value of a target at x_t from x_0, (B, ...): the inverse of `data_of`."""
    return target.of(data, noise_of(data, x, t, path))


def noise_of(data: Tensor, x: Tensor, t: Tensor, path: Path) -> Tensor:
    """eps from x_0 at x_t: (x_t - alpha x_0) / sigma, (B, ...)."""
    return (x - along(path.alpha(t), x) * data) / along(path.sigma(t), x)


def score_of(data: Tensor, x: Tensor, t: Tensor, path: Path) -> Tensor:
    """Gradient of the log density of x_t from x_0 at x_t: -eps / sigma, (B, ...)."""
    return -noise_of(data, x, t, path) / along(path.sigma(t), x)
