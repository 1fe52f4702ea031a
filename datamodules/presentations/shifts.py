"""Shifts of the law of the records, with severities 1 to 5, for whole batches.

A shift is a function (columns, severity, statistics) -> columns, of records `x` (n, ...) and targets `y` (n,) as the
source gives them: pictures (n, C, H, W) in [0, 1], vectors (n, D) in their own units. Random numbers come from torch's
global state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from compendium.errors import UserError

SEVERITIES = (1, 2, 3, 4, 5)


class Statistics(NamedTuple):
    """Of the training records: mean and standard deviation (1, ...) of each component."""

    mean: Tensor
    std: Tensor


Columns = dict[str, Tensor]
Shift = Callable[[Columns, int, Statistics], Columns]


def of_x(change: Callable[[Tensor, int, Statistics], Tensor]) -> Shift:
    """A shift that changes each record and leaves its target."""
    return lambda columns, severity, statistics: columns | {"x": change(columns["x"], severity, statistics)}


def picture_noise(x: Tensor, severity: int, statistics: Statistics) -> Tensor:
    """Gaussian noise of standard deviation 0.04, 0.06, 0.08, 0.09, 0.10, cut off at the bounds (CIFAR-10-C)."""
    return (x + (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1] * torch.randn_like(x)).clamp(0, 1)


def blur(x: Tensor, severity: int, statistics: Statistics) -> Tensor:
    """A Gaussian of standard deviation 0.4, 0.6, 0.7, 0.8, 1 pixels (CIFAR-10-C), reflected at the edges."""
    sigma = (0.4, 0.6, 0.7, 0.8, 1.0)[severity - 1]
    reach = min(math.ceil(3 * sigma), x.shape[2] - 1, x.shape[3] - 1)
    bell = torch.exp(-0.5 * (torch.arange(-reach, reach + 1).to(x) / sigma).square())
    bell = bell / bell.sum()
    flat = F.pad(x.flatten(0, 1)[:, None], (reach,) * 4, mode="reflect")
    return F.conv2d(F.conv2d(flat, bell[None, None, None]), bell[None, None, :, None]).view(x.shape)


def contrast(x: Tensor, severity: int, statistics: Statistics) -> Tensor:
    """Nearer to each picture's mean: (x - mean) c + mean, c = 0.75, 0.5, 0.4, 0.3, 0.15 (CIFAR-10-C)."""
    mean = x.mean((2, 3), keepdim=True)
    return (x - mean) * (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1] + mean


def rotation(x: Tensor, severity: int, statistics: Statistics) -> Tensor:
    """Turned by 15, 30, 45, 60, 75 degrees, as rotated digits usually are; bilinear, with zeros from outside."""
    angle = math.radians(15 * severity)
    turn = x.new_tensor([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0]])
    grid = F.affine_grid(turn.expand(len(x), 2, 3), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


def occlusion(x: Tensor, severity: int, statistics: Statistics) -> Tensor:
    """A grey square somewhere, of 10% to 50% of the picture's area (our choice)."""
    height, width = x.shape[2:]
    side = math.sqrt(0.1 * severity)
    tall, wide = max(1, round(side * height)), max(1, round(side * width))
    top = torch.randint(height - tall + 1, (len(x), 1, 1, 1), device=x.device)
    left = torch.randint(width - wide + 1, (len(x), 1, 1, 1), device=x.device)
    row = torch.arange(height, device=x.device)[:, None]
    column = torch.arange(width, device=x.device)
    hidden = (row >= top) & (row < top + tall) & (column >= left) & (column < left + wide)
    return torch.where(hidden, 0.5, x)


def vector_noise(x: Tensor, severity: int, statistics: Statistics) -> Tensor:
    """Gaussian noise of 0.2, 0.4, 0.6, 0.8, 1 standard deviations of each feature (our choice)."""
    return x + 0.2 * severity * statistics.std * torch.randn_like(x)


def missing(x: Tensor, severity: int, statistics: Statistics) -> Tensor:
    """10% to 50% of the features, at random, are unknown: the training mean stands there (our choice)."""
    return torch.where(torch.rand_like(x) < 0.1 * severity, statistics.mean, x)


def covariate(columns: Columns, severity: int, statistics: Statistics) -> Columns:
    """Records drawn anew with weights exp(severity / 2 times their projection on the first principal component).

    The exponential tilt of Tibshirani et al. 2019, "Conformal Prediction Under Covariate Shift", along a direction in
    which records differ most; p(y | x) stays.
    """
    z = ((columns["x"] - statistics.mean) / statistics.std.clamp(min=1e-12)).flatten(1)
    direction = torch.linalg.svd(z - z.mean(0), full_matrices=False).Vh[0]
    direction = direction * torch.where(direction[direction.abs().argmax()] < 0, -1.0, 1.0)  # an SVD's sign is a chance
    projection = z @ direction
    return redrawn(columns, 0.5 * severity * projection / projection.std().clamp(min=1e-12))


def label(columns: Columns, severity: int, statistics: Statistics) -> Columns:
    """Records drawn anew with weights that fall from class to class, by e^severity in all; p(x | y) stays."""
    y = columns["y"]
    return redrawn(columns, -severity * y.double() / y.max().clamp(min=1))


def redrawn(columns: Columns, log_weight: Tensor) -> Columns:
    """As many records, drawn with replacement with weights exp(log_weight) (n,)."""
    rows = (log_weight - log_weight.max()).double().exp().multinomial(len(log_weight), replacement=True)
    return {name: column[rows] for name, column in columns.items()}


SHIFTS: Mapping[str, Mapping[str, Shift]] = {
    "image": {
        "noise": of_x(picture_noise),
        "blur": of_x(blur),
        "contrast": of_x(contrast),
        "rotation": of_x(rotation),
        "occlusion": of_x(occlusion),
    },
    "vector": {"noise": of_x(vector_noise), "missing": of_x(missing), "covariate": covariate, "label": label},
}


def shift(kind: str, name: str) -> Shift:
    """A shift of a kind of records.

    Raises:
        UserError: none of that name.
    """
    known = SHIFTS.get(kind, {})
    if name not in known:
        raise UserError(f"there is no shift '{name}' of {kind} records.", f"there are: {', '.join(known) or 'none'}")
    return known[name]


def statistics(x: Tensor) -> Statistics:
    """Records (n, ...) -> their statistics."""
    return Statistics(x.mean(0, keepdim=True), x.std(0, correction=0, keepdim=True))
