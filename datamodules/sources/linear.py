"""Linear regression whose curvature is known to the last digit: a quadratic to try optimizers on."""

from __future__ import annotations

import torch
from torch import Tensor

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.source import Records, Source
from datamodules.spec import DataSpec

SPLITS = ("train", "validation", "test")


class LinearRegression(Source):
    """y = x . w + noise e with w and e from N(0, 1), and records of mean 0 and a given second moment in each split:

        mean of x x^T = Q diag(condition^(-j / (D - 1))) Q^T,   j = 0 ... D - 1,   Q a random rotation

    so that mean squared error is a quadratic whose eigenvalues lie between 1 / condition and 1, evenly on a logarithmic
    scale. With noise 0 its least value is 0. Present it with `datamodule.scale=none`, which leaves the units.

    The training records can be a biased proxy of the others: eigenvalues of theirs differ by `tilt`, up and down in
    turns where they are twice as large and up where they are not, so that the losses of two splits differ by a
    `tilt`-smooth function; and `bias` e' is added to their w, e' from N(0, 1).

    Args:
        dimensions: D, at least 2.
        condition: largest over smallest eigenvalue, at least 1.
        noise: standard deviation of what is not linear.
        tilt: how far eigenvalues of the training records are from those of the others.
        bias: how far their weights are.
        train: records, more than D as in each split.
        validation: records.
        test: records.
        seed: what the records are a function of.

    Raises:
        UserError: a value out of range.
    """

    def __init__(
        self,
        dimensions: int = 20,
        condition: float = 1000.0,
        noise: float = 0.0,
        tilt: float = 0.0,
        bias: float = 0.0,
        train: int = 400,
        validation: int = 100,
        test: int = 100,
        seed: int = 0,
    ) -> None:
        if dimensions < 2 or condition < 1 or min(noise, tilt, bias) < 0:
            raise UserError(
                f"data.dimensions={dimensions} data.condition={condition} data.noise={noise} data.tilt={tilt} "
                f"data.bias={bias}: at least 2, 1 and 0."
            )
        self.sizes = dict(zip(SPLITS, (train, validation, test), strict=True))
        if min(self.sizes.values()) <= dimensions:
            sizes = " ".join(f"data.{name}={size}" for name, size in self.sizes.items())
            raise UserError(f"{sizes}: each is above data.dimensions={dimensions}.")
        self.dimensions, self.condition, self.noise, self.seed = dimensions, condition, noise, seed
        self.tilt, self.bias = tilt, bias

    def load(self) -> Records:
        draw = generator(self.seed, "linear")
        turn = torch.linalg.qr(torch.randn(self.dimensions, self.dimensions, generator=draw, dtype=torch.float64))[0]
        power = torch.arange(self.dimensions, dtype=torch.float64) / (self.dimensions - 1)
        values = self.condition**-power
        lower = (torch.arange(self.dimensions) % 2 == 1) & (values >= 2 * self.tilt)
        tilted = values + torch.where(lower, -self.tilt, self.tilt)
        moments = {name: tilted if name == "train" else values for name in SPLITS}
        weight = torch.randn(self.dimensions, generator=draw, dtype=torch.float64)
        x = torch.cat([self.whitened(size, draw) * moments[name].sqrt() @ turn.T for name, size in self.sizes.items()])
        y = x @ weight + self.noise * torch.randn(len(x), generator=draw, dtype=torch.float64)
        shift = self.bias * torch.randn(self.dimensions, generator=draw, dtype=torch.float64)
        y[: self.sizes["train"]] += x[: self.sizes["train"]] @ shift
        ends = torch.tensor([0, *self.sizes.values()]).cumsum(0).tolist()
        splits = {name: torch.arange(ends[place], ends[place + 1]) for place, name in enumerate(SPLITS)}
        spec = DataSpec(name="linear", kind="vector", shape=(self.dimensions,), target="real")
        return Records(spec, {"x": x.float(), "y": y.float()}, splits=splits)

    def whitened(self, size: int, draw: torch.Generator) -> Tensor:
        """Records (size, D), float64, of mean 0 whose second moment is the identity."""
        x = torch.randn(size, self.dimensions, generator=draw, dtype=torch.float64)
        return torch.linalg.qr(x - x.mean(0))[0] * size**0.5
