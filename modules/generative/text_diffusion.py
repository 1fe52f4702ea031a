"""Gaussian diffusion of pictures with captions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from compendium.restore import read_checkpoint
from datamodules.batches import Captioned
from datamodules.spec import DataSpec
from modules.generative.diffusion import Diffusion


class TextDiffusion(Diffusion):
    """Learns E[x_0 | x_t, caption] and E[x_0 | x_t] with one network, which sees no caption in a share of the records.

    Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion Models", section 3.3, in the space of
    pixels; Ho and Salimans 2022, "Classifier-Free Diffusion Guidance", Algorithm 1. What is a class elsewhere is a
    caption here, y int64 (B, T), and a row of -1 asks for any picture, so that every guidance towards y works.

    `sample(n)` asks for any picture.

    Args:
        spec: pictures with captions.
        drop: share of the records whose caption is hidden, in [0, 1). Default 0.1, there.
        model: checkpoint of a `TextDiffusion` to begin with, with the same network; None: new weights.
        parts: the arguments of `Diffusion`.

    Raises:
        UserError: a share outside [0, 1), records without captions, a checkpoint that does not fit.
    """

    batch_type = Captioned
    kinds = ("image",)

    def __init__(
        self, spec: DataSpec | Mapping[str, Any], drop: float = 0.1, model: str | None = None, **parts: Any
    ) -> None:
        super().__init__(spec, **parts)
        if not self.spec.words:
            raise UserError(f"'{self.spec.name}' is shown without captions.", "choose datamodule=captioned")
        if not 0 <= drop < 1:
            raise UserError(f"model.drop={drop}: a share of the records, in [0, 1).")
        self.drop = drop
        if model is not None:
            self.restore(read_checkpoint(model, "cpu")["state_dict"], model)
            self.hparams["model"] = None  # the weights are its own from here on

    def network(self) -> dict[str, Any]:
        return {"words": len(self.spec.words)}

    def predict(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return super().predict(x, t, self.nothing(len(x)) if y is None else y)

    def loss(self, batch: Captioned) -> Tensor:  # type: ignore[override]
        x, t, noise = self.noised(batch.x)
        return self.error(self.predict(x, t, self.hidden(batch.caption)), batch.x, noise, t).mean()

    def hidden(self, caption: Tensor) -> Tensor:
        """Captions int64 (B, T), with rows of -1 for a share `drop` of them."""
        return caption.masked_fill(torch.rand(len(caption), 1, device=caption.device) < self.drop, -1)

    def nothing(self, n: int) -> Tensor:
        """n hidden captions (n, T)."""
        return torch.full((n, self.spec.caption or 1), -1, device=self.device)

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """n draws (n, ...), of no caption."""
        return self.draw(self.field(self.nothing(n)), n)

    @torch.no_grad()
    def sample_for(self, caption: Tensor) -> Tensor:
        """Captions int64 (n, T) -> a draw of each (n, ...)."""
        return self.draw(self.field(caption), len(caption))
