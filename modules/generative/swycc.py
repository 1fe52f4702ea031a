"""SWYCC: an autoencoder that draws what its bottleneck has lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.bottleneck import bottleneck
from modules.generative.diffusion import Diffusion
from modules.generative.gaussian.field import Field
from modules.generative.gaussian.model import Node
from modules.method import Method


class Beside(nn.Module):
    """A field over records beside which another record is shown.

    Args:
        net: (B, 2 C, ...) and times (B,) -> (B, C, ...).
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, t: Tensor, shown: Tensor) -> Tensor:
        """x and what is shown (B, C, ...), t (B,) -> (B, C, ...)."""
        return self.net(torch.cat([x, shown], 1), t)


class SWYCC(Method):
    """An encoder E, a coarse decoder D and a denoiser R that sees the coarse record, of one loss:

        coarse E |D(E(x)) - x|^2 + E w(t) |x - R(x_t, t, D(E(x)))|^2

    where |.|^2 is a mean over components; its gradient reaches E and D through R too. D blurs what z = E(x) does not
    tell; a reconstruction is a draw by R, which makes up a likely detail in its place. A share `drop` of the
    records is shown nothing, so that draws can be guided, R(0) + strength (R(D(z)) - R(0)).

    Birodkar et al. 2024, "Sample What You Can't Compress". The paper's text was not at hand beyond its abstract and a
    summary of its method: the weight, the share and the strength are ours.

    Deviations: (1) no perceptual loss; (2) z is a vector, where theirs keeps a coarse place in the picture; (3) the
    networks are what the config chooses, one kind for all three.

    Args:
        spec: images or vectors.
        path: config of a `modules.generative.gaussian.paths.Path`.
        sampler: config of a `modules.generative.samplers.base.Sampler`, for reconstructions.
        timesteps: config of its `modules.generative.timesteps.grids.Timesteps`.
        latent: components of z.
        coarse: weight of the coarse decoder's own error, at least 0.
        drop: share of the records that R is shown nothing of, from 0 to below 1.
        strength: of the guidance of draws; 1: none.
        target: what R predicts, see `Diffusion`; so weighting, times and data_std.
        weighting: see there.
        times: see there.
        data_std: see there.
        parts: `net`, `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: no component, a weight or a share out of range, guidance without records that are shown nothing.
    """

    batch_type = Unlabelled
    kinds = ("image", "vector")
    papers = ("birodkar2024sample",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        path: Node,
        sampler: Node,
        timesteps: Node,
        latent: int = 4,
        coarse: float = 1.0,
        drop: float = 0.1,
        strength: float = 1.0,
        target: str = "v",
        weighting: str = "v",
        times: str = "uniform",
        data_std: float = 0.5,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if coarse < 0 or not 0 <= drop < 1:
            raise UserError(f"model.coarse={coarse} model.drop={drop}: a weight of at least 0, a share below 1.")
        if strength != 1 and not drop:
            raise UserError(f"model.strength={strength} with model.drop=0: nobody has learned to be shown nothing.")
        self.coarse, self.drop, self.strength = coarse, drop, strength
        self.autoencoder = bottleneck(self, latent)
        shape = self.spec.shape
        self.refiner = Diffusion(
            self.spec,
            target=target,
            weighting=weighting,
            times=times,
            data_std=data_std,
            net=Beside(self.build((2 * shape[0], *shape[1:]), shape, time=True)),
            path=path,
            sampler=sampler,
            timesteps=timesteps,
            guidance={"_target_": "modules.generative.guidance.base.Unguided"},
        )

    def loss(self, batch: Unlabelled) -> dict[str, Tensor]:
        x = batch.x
        blurred = self.autoencoder(x)
        kept = torch.rand(len(x), *(1,) * (x.dim() - 1), device=x.device) >= self.drop
        noisy, t, noise = self.refiner.noised(x)
        predicted = self.refiner.predict(noisy, t, blurred * kept)
        return {
            "coarse": self.coarse * (blurred - x).square().mean(),
            "diffusion": self.refiner.error(predicted, x, noise, t).mean(),
        }

    def embed(self, x: Tensor) -> Tensor:
        """x (B, ...) -> z (B, latent)."""
        return self.autoencoder.encoder(x)

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """z (n, latent) -> a draw of a record for each (n, ...)."""
        blurred = self.autoencoder.decoder(z)

        def denoised(x: Tensor, t: Tensor) -> Tensor:
            data = self.refiner.denoise(x, t, blurred)
            if self.strength == 1:
                return data
            blind = self.refiner.denoise(x, t, torch.zeros_like(blurred))
            return blind + self.strength * (data - blind)

        return self.refiner.draw(Field(self.refiner.path, denoised), len(z))

    def reconstruct(self, x: Tensor) -> Tensor:
        """x (B, ...) -> a draw of what it may have been (B, ...)."""
        return self.decode(self.embed(x))
