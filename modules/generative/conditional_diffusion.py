"""Gaussian diffusion of records with classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.generative.diffusion import Diffusion


class ConditionalDiffusion(Diffusion):
    """Learns E[x_0 | x_t, y] and E[x_0 | x_t] with one network, which sees no class in a share of the records.

    Ho and Salimans 2022, "Classifier-Free Diffusion Guidance", Algorithm 1.

    `sample(n)` draws each class alike.

    Args:
        spec: images or vectors in classes.
        drop: share of the records whose class is hidden, in [0, 1). Default 0.1, there.
        parts: the arguments of `Diffusion`.

    Raises:
        UserError: a share outside [0, 1).
    """

    batch_type = Labelled
    targets = ("class",)
    otherwise = "model=generative/diffusion needs no classes"

    def __init__(self, spec: DataSpec | Mapping[str, Any], drop: float = 0.1, **parts: Any) -> None:
        super().__init__(spec, **parts)
        if not 0 <= drop < 1:
            raise UserError(f"model.drop={drop}: a share of the records, in [0, 1).")
        self.drop = drop

    def network(self) -> dict[str, Any]:
        return {"classes": len(self.spec.classes)}

    def loss(self, batch: Labelled) -> Tensor:  # type: ignore[override]
        x, t, noise = self.noised(batch.x)
        return self.error(self.predict(x, t, self.hidden(batch.y)), batch.x, noise, t).mean()

    def hidden(self, y: Tensor) -> Tensor:
        """Classes int64 (B,), -1 for a share `drop` of them."""
        return torch.where(torch.rand(len(y), device=y.device) < self.drop, -1, y)

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """n draws (n, ...), of all classes alike."""
        return self.sample_of(torch.randint(len(self.spec.classes), (n,), device=self.device))

    @torch.no_grad()
    def sample_of(self, y: Tensor) -> Tensor:
        """Draws (B, ...) of the classes y int64 (B,)."""
        return self.draw(self.field(y), len(y))
