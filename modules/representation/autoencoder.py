"""The plain autoencoder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.method import Method


class DeepAutoencoder(Method):
    """x -> code -> x by two networks: the loss is 1/2 |x - decoder(encoder(x))|^2, a mean over records.

    Hinton and Salakhutdinov 2006, "Reducing the Dimensionality of Data with Neural Networks", with any network and
    without pretraining, as it has been a trial of optimizers since Martens 2010.

    Args:
        spec: pictures or vectors.
        code: size of the code, at least 1.
        parts: `net` (of both, the decoder's turned around), `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: a code without numbers.
    """

    batch_type = Unlabelled
    kinds = ("image", "vector")

    def __init__(self, spec: DataSpec | Mapping[str, Any], code: int = 8, **parts: Any) -> None:
        super().__init__(spec, **parts)
        if code < 1:
            raise UserError(f"model.code={code}: at least 1.")
        size = math.prod(self.spec.shape)
        self.encoder = self.build((size,), (code,))
        self.decoder = self.build((code,), (size,))

    def loss(self, batch: Unlabelled) -> Tensor:
        return 0.5 * (batch.x - self.reconstruct(batch.x)).square().flatten(1).sum(1).mean()

    def embed(self, x: Tensor) -> Tensor:
        """x (B, ...) -> its code (B, code)."""
        return self.encoder(x.flatten(1))

    def reconstruct(self, x: Tensor) -> Tensor:
        """x (B, ...) -> what its code says of it (B, ...)."""
        return self.decoder(self.embed(x)).view(x.shape)
