"""Records with a real target, and the opinion of an expert who may know what the features do not tell."""

from __future__ import annotations

import torch

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.source import Records, Source
from datamodules.sources.checks import consecutive, split_sizes
from datamodules.spec import DataSpec

SPLITS = ("train", "validation", "test")


class Experts(Source):
    """y = mu(u) + side(u) z + noise e, and an expert who guesses mu and sees z.

    Features u ~ N(0, I), mu = u . w + sin(2 u_1) / 2 with w of length about 1 and w_1 at least 1 / 2; z and e
    ~ N(0, 1). What is hidden, z, matters for the records with u_1 above 0 alone: side(u) = [u_1 > 0] `side`. The
    expert's opinion is

        h = rough u . w + knows z + blur e'

    a rough guess of mu that is worse than what can be learned, and z, blurred. With knows = 0 the opinion has nothing
    about y that is not in u: given u, they are independent.

    `x` is (u, h): the opinion is the last column.

    Args:
        features: of u.
        side: how much of y is hidden.
        knows: how much of it the expert tells.
        rough: how the expert scales u . w; 1 / 2: everything looks more average than it is.
        blur: standard deviation of the opinion's noise.
        noise: standard deviation of the target's noise.
        train, validation, test: records per split.
        seed: what the records are a function of.

    Raises:
        UserError: fewer than two features, a split without a record, a spread below 0.
    """

    def __init__(
        self,
        features: int = 8,
        side: float = 1.0,
        knows: float = 1.0,
        rough: float = 0.5,
        blur: float = 0.5,
        noise: float = 0.5,
        train: int = 2000,
        validation: int = 500,
        test: int = 5000,
        seed: int = 0,
    ) -> None:
        if features < 2:
            raise UserError(f"data.features={features}: at least two.")
        for name, spread in (("blur", blur), ("noise", noise)):
            if spread < 0:
                raise UserError(f"data.{name}={spread}: it is a standard deviation, 0 at least.")
        self.sizes = split_sizes(train, validation, test)
        self.features, self.side, self.knows, self.rough = features, side, knows, rough
        self.blur, self.noise, self.seed = blur, noise, seed

    def load(self) -> Records:
        draw = generator(self.seed, "experts")
        w = torch.randn(self.features, generator=draw)
        w[0] = 1 + w[0].abs()
        w = w / w.norm()
        w[0] = w[0].clamp(min=0.5)
        u = torch.randn(sum(self.sizes.values()), self.features, generator=draw)
        z, e, blur = torch.randn(3, len(u), generator=draw)
        guess = u @ w
        mu = guess + 0.5 * torch.sin(2 * u[:, 0])
        y = mu + self.side * (u[:, 0] > 0) * z + self.noise * e
        opinion = self.rough * guess + self.knows * z + self.blur * blur
        names = (*(f"u{number}" for number in range(self.features)), "expert")
        spec = DataSpec("experts", "vector", (len(names),), target="real", features=names)
        x = torch.cat([u, opinion[:, None]], 1)
        return Records(spec, {"x": x, "y": y}, splits=consecutive(self.sizes))
