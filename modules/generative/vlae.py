"""Variational lossy autoencoder: a decoder that sees its neighbourhood, so that the code keeps what is global."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from compendium.errors import UserError
from datamodules.spec import DataSpec
from modules.generative.latent import Decoder, LatentVariableModel, bernoulli, check_binary, repeated
from modules.networks.causal_window import CausalWindow


class VLAE(LatentVariableModel):
    """p(x|z) = prod_i p(x_i | z, x_window(i)) with a small window, and an autoregressive flow as the prior of z.

    What the decoder can predict from the pixels around i costs nothing there, whereas through z it costs nats of
    KL(q(z|x) | p(z)). So the code keeps only what no window shows (bits back: Chen et al., section 2.2), and with a
    window that covers everything it keeps nothing. The flow makes p(z) fit the codes; it is the same model as an
    inverse autoregressive flow in the posterior, with a deeper decoder (section 3.2).

    Chen et al. 2017, "Variational Lossy Autoencoder", sections 3.1 (local window) and 3.2 (autoregressive prior).

    Deviations: (1) one layer reads the window, and those after it stay within the pixel, so that a window is exact,
    where the paper stacks masked convolutions of small kernels; (2) binary pixels alone; (3) the KL of free bits is one
    term for all dimensions of z, for with a flow as the prior it does not fall into one per dimension; how the paper
    groups dimensions could not be looked up.

    Args:
        spec: binary images.
        radius: reach of the window, at least 1: 1 sees the four neighbours before a pixel. None: all pixels before.
        width: features of the decoder.
        depth: layers of the decoder after that, at least 1.
        prior: see `LatentVariableModel`.
        parts: the arguments of `LatentVariableModel`.

    Raises:
        UserError: records that are not binary, a window or a decoder of no size.
    """

    kinds = ("image",)
    papers = ("chen2017variational",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        radius: int | None = 1,
        width: int = 64,
        depth: int = 3,
        prior: str = "flow",
        **parts: Any,
    ) -> None:
        for name, value in (("radius", radius), ("width", width), ("depth", depth)):
            if value is not None and value < 1:
                raise UserError(f"model.{name}={value}: it is at least 1.")
        self.radius, self.width, self.depth = radius, width, depth
        super().__init__(spec, prior=prior, **parts)

    def build_decoder(self) -> WindowDecoder:
        check_binary(self.spec, "VLAE")
        _, height, width = self.spec.shape
        radius = max(height, width, 2) - 1 if self.radius is None else self.radius
        features = self.build((self.latent,), (height, width, self.width))
        return WindowDecoder(features, CausalWindow(self.spec.shape, radius, self.width, self.depth))


class WindowDecoder(Decoder):
    """Bernoulli pixels, each given z and the pixels before it in a window.

    Args:
        net: z (N, latent) -> features (N, H, W, width).
        pixels: from x and features to logits.
    """

    def __init__(self, net: nn.Module, pixels: CausalWindow) -> None:
        super().__init__()
        self.net, self.pixels = net, pixels

    def log_prob(self, x: Tensor, z: Tensor) -> Tensor:
        rows = repeated(x, len(z))
        return bernoulli(self.pixels(rows, self.net(z.flatten(0, 1))), rows)

    def sample(self, z: Tensor) -> Tensor:
        features = self.net(z)
        channels, height, width = self.pixels.shape
        x = features.new_zeros(len(z), channels, height, width)
        for row in range(height):
            for column in range(width):  # each pixel waits for those before it
                logits = self.pixels(x, features)[:, :, row, column]
                x[:, :, row, column] = torch.bernoulli(logits.sigmoid())
        return x
