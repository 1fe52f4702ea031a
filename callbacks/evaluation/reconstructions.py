"""What is left of records that go through a code and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from callbacks.evaluation.base import Evaluation
from callbacks.features import feature_space
from callbacks.metrics.distances import frechet
from compendium.seeding import seeded
from datamodules.batches import Unlabelled
from modules.capabilities import Autoencoder


class Reconstructions(Evaluation):
    """Figures of the reconstructions of an Autoencoder.

    - `reconstruction_mse`: mean squared difference to the record, over components and records.
    - `reconstruction_psnr`: 10 log10(R^2 / `reconstruction_mse`), decibels, R the range of the records; only where it
      is known.
    - `reconstruction_frechet`: Fréchet distance between the laws of reconstructions and records in
      `callbacks.features.feature_space`: blur raises it, also where it lowers the squared difference.
    """

    capabilities = (Autoencoder,)
    batch_type = Unlabelled
    stages = ("test",)

    def start(self, method, data) -> None:
        self.data = data
        self.rows: list[tuple[torch.Tensor, torch.Tensor]] = []

    def update(self, method, batch) -> None:
        # A stream per batch of each process: more processes draw other reconstructions of the same quality.
        with seeded(self.data.seed, "reconstructions", self.batch_idx, self.data.share[0]):
            made = method.reconstruct(batch.x)
        self.rows.append((batch.x.float().cpu(), made.float().cpu()))

    def compute(self, method, data) -> Mapping[str, float]:
        empty = torch.empty(0, *data.spec.shape)
        real, made = (self.rows_of_all(torch.cat([empty, *(pair[side] for pair in self.rows)])) for side in range(2))
        return self.on_rank_zero(lambda: self.compare(real, made, data))

    def compare(self, real: torch.Tensor, made: torch.Tensor, data: Any) -> dict[str, float]:
        """Records (n, ...) and their reconstructions (n, ...) -> the figures."""
        features = feature_space(data)
        mse = float((real - made).double().square().mean())
        figures = {"reconstruction_mse": mse, "reconstruction_frechet": float(frechet(features(made), features(real)))}
        if data.spec.bounds is not None:
            low, high = data.spec.bounds
            figures["reconstruction_psnr"] = float(10 * ((high - low) ** 2 / torch.tensor(mse)).log10())
        return figures
