"""Diffusion of records and their classes at once, in one space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.generative.diffusion import Diffusion


class MultiTaskDiffusion(Diffusion):
    """MT-Diffusion of pairs (x, y): what is noised is an aggregate of the encodings of both, and each has a decoder.

    With q(z_t | z_{t-1}, x, y) = N(sqrt(a_t) (z_{t-1} + w_t E), (1 - a_t) I) and z_0 = 0 the marginal is

        z_t = c_t E + sqrt(1 - a_1 .. a_t) eps,    c_t = sum_s w_s sqrt(a_s .. a_t)

    which for w_1 = 1 and w_t = 0 after it is a Gaussian path of the data E(x, y). Here

        E = (x + strength u_y) / sqrt(1 + strength^2)

    with a learned pattern u_y per class whose mean square is `data_std`^2. One network, the shared backbone, gives the
    target of E, a decoding of x and the logits of y, and the multi-task bound becomes

        loss   diffusion of E + image_weight E |x - x(z_t)|^2 + label_weight E[-ln p(y | z_t)]

    A draw of E is decoded at the smallest time, into a record and a class that belong together.

    Chen et al. 2024, "Diffusion Models for Multi-Task Generative Modeling". I have not seen the paper's full text, but
    its forward process and the form of its bound.

    Deviations: (1) encoders are the identity and a table, decoders are channels of the network's output, averaged over
    the pixels for y; (2) weights of the terms are ours, and do not depend on t; (3) continuous time, on any path.

    Args:
        spec: images or vectors in classes.
        strength: of the class in the aggregate, at least 0.
        image_weight: of the decoding of x.
        label_weight: of that of y.
        parts: the arguments of `Diffusion`.

    Raises:
        UserError: a negative strength, a weight that is not above 0.
    """

    batch_type = Labelled
    targets = ("class",)
    otherwise = "model=generative/diffusion needs no classes"
    papers = ("chen2024diffusion",)
    # These are of the aggregate, and not of records.
    log_prob = None  # type: ignore[assignment]
    kinetic_energy = None  # type: ignore[assignment]
    stretching = None  # type: ignore[assignment]

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        strength: float = 0.5,
        image_weight: float = 1.0,
        label_weight: float = 0.1,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if strength < 0 or min(image_weight, label_weight) <= 0:
            raise UserError(
                f"model.strength={strength} model.image_weight={image_weight} model.label_weight={label_weight}: "
                "a strength of at least 0, and weights above 0."
            )
        self.strength, self.image_weight, self.label_weight = strength, image_weight, label_weight
        channels, *rest = self.spec.shape
        self.parts = [channels, channels, len(self.spec.classes)]
        self.net = self.build(self.spec.shape, (sum(self.parts), *rest), time=True)  # in the place of Diffusion's
        self.patterns = nn.Embedding(len(self.spec.classes), self.spec.dimensions)

    def encode(self, x: Tensor, y: Tensor) -> Tensor:
        """The aggregate (B, ...) of records (B, ...) and their classes (B,)."""
        pattern = self.patterns(y)
        size = pattern.square().mean(1, keepdim=True).sqrt()
        pattern = (self.data_std * pattern / size).view_as(x)
        return (x + self.strength * pattern) / (1 + self.strength**2) ** 0.5

    def heads(self, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z_t (B, ...) -> the target of E (B, ...), x (B, ...) and logits of y (B, classes)."""
        target, x, y = super().predict(z, t).split(self.parts, 1)
        return target, x, y.flatten(2).mean(2) if y.dim() > 2 else y

    def predict(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return self.heads(x, t)[0]

    def loss(self, batch: Labelled) -> dict[str, Tensor]:  # type: ignore[override]
        data = self.encode(batch.x, batch.y)
        z, t, noise = self.noised(data)
        target, x, logits = self.heads(z, t)
        return {
            "shared": self.error(target, data, noise, t).mean(),
            "image": self.image_weight * mse_loss(x, batch.x),
            "label": self.label_weight * cross_entropy(logits, batch.y),
        }

    @torch.no_grad()
    def sample_pairs(self, n: int) -> tuple[Tensor, Tensor]:
        """n draws (n, ...) and their classes int64 (n,)."""
        z = self.draw(self.field(), n)
        _, x, logits = self.heads(z, z.new_full((n,), self.path.start))
        return x, torch.multinomial(logits.softmax(1), 1)[:, 0]

    def sample(self, n: int) -> Tensor:
        """n draws (n, ...)."""
        return self.sample_pairs(n)[0]
