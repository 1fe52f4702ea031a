"""Exact fields for the tests of samplers and guidance: a small mixture whose every marginal is known."""

from __future__ import annotations

import torch
from torch import Tensor

from compendium.config import choices, instantiate
from datamodules.sources.densities import GaussianMixture
from modules.generative.gaussian.field import Field
from modules.generative.gaussian.mixtures import MixtureDenoiser
from modules.generative.gaussian.paths import Path

LAW = GaussianMixture(
    torch.tensor([[-1.5, 0.0], [1.0, 1.0], [1.0, -0.5]]),
    torch.tensor([0.4, 0.3, 0.6]),
    torch.tensor([0.5, 0.3, 0.2]),
    labels=torch.tensor([0, 1, 1]),
)


class Known:
    """The model whose denoiser is exact for `LAW`."""

    def __init__(self, path: Path, law: GaussianMixture = LAW) -> None:
        self.path, self.labels = path, law.labels
        self.denoiser = MixtureDenoiser(law.means, law.std[:, None], law.weights)

    def denoise(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        among = None if y is None else (self.labels == y[:, None]) | (y < 0)[:, None]
        return self.denoiser.denoise(x, self.path.alpha(t), self.path.sigma(t), among)

    def field(self, y: Tensor | None = None) -> Field:
        return Field(self.path, lambda x, t: self.denoise(x, t, y))


def configured(group: str, name: str, **changes):
    """The object that a file of conf/GROUP describes."""
    from omegaconf import OmegaConf

    node = OmegaConf.to_container(OmegaConf.load(choices(group)[name]))
    return instantiate({**node, **changes})


PATHS = sorted(choices("path"))
GAUSSIAN = [name for name in PATHS if type(configured("path", name)).noise is Path.noise]
"""Paths whose noise is Gaussian: on them the marginals of `LAW` are mixtures of Gaussians."""
