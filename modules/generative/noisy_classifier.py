"""A classifier of noisy records: what guides a diffusion model towards a class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from compendium.config import instantiate
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.generative.gaussian.noisy import Judge, noised
from modules.generative.gaussian.paths import Path
from modules.generative.gaussian.weightings import law_of_times
from modules.method import Method


class NoisyClassifier(Method):
    """Learns ln p(y | x_t) at all times of a path, by cross-entropy on records with noise.

    Dhariwal and Nichol 2021, "Diffusion Models Beat GANs on Image Synthesis", section 4. `guidance=classifier`
    opens its checkpoint.

    Deviation: the network is any that takes a time; the paper's is the downsampling half of its U-Net.

    Args:
        spec: images or vectors in classes.
        path: config of a `modules.generative.gaussian.paths.Path`, that of the model that is to be guided.
        times: law of the training times, see `modules.generative.gaussian.weightings`. Default uniform, the paper's.
        data_std: standard deviation of the data, which scales the input to about 1. Default 0.5, images from -1 to 1.
        parts: `net`, `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: an unknown law of times.
    """

    batch_type = Labelled
    kinds = ("image", "vector")
    targets = ("class",)
    otherwise = "model=generative/minority_diffusion makes classes of its own"

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        path: Mapping[str, Any],
        times: str = "uniform",
        data_std: float = 0.5,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        law_of_times(times)
        self.path: Path = instantiate(path, where="path")
        self.times = times
        net = self.build(self.spec.shape, (len(self.spec.classes),), time=True)
        self.judge = Judge(net, self.path, data_std)

    def loss(self, batch: Labelled) -> Tensor:
        return F.cross_entropy(self.judge(*noised(self.path, self.times, batch.x)), batch.y)

    @property
    def known(self) -> int:
        """Number of classes."""
        return len(self.spec.classes)

    def log_proba_at(self, x: Tensor, t: Tensor) -> Tensor:
        """x_t (B, ...), t (B,) -> ln p(y | x_t) (B, classes)."""
        return self.judge(x, t).log_softmax(1)

    def predict_log_proba(self, x: Tensor) -> Tensor:
        """Records (B, ...), as if seen at the path's start -> log probabilities (B, classes)."""
        return self.log_proba_at(x, torch.full((len(x),), self.path.start, device=x.device, dtype=x.dtype)).float()
