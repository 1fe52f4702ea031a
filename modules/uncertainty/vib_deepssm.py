"""Points of a shape from its picture through an information bottleneck, with noise in the weights as well."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from compendium.config import instantiate
from compendium.errors import UserError
from datamodules.batches import Pointed
from datamodules.spec import DataSpec
from modules.method import Method
from modules.networks.stochastic import Noise, passes, penalty


class VIBDeepSSM(Method):
    """Points y in pictures x by a variational information bottleneck z whose weights theta are uncertain, too.

        q(z|x, theta) = N(e(x), diag s(x)^2),      z_1 ... z_S from it,      mu_s = d(z_s)
        p(y|x, theta) = N(mean_s mu_s, var_s mu_s + v)
        loss = -ln p(y|x, theta) / 2P + beta KL(q(z|x, theta) | N(0, I)) / L + KL(q(theta) | p(theta)) / (2P N)

    at theta from q, one per record, or one per member of a batch ensemble. All of it counts per coordinate of the P
    points, or of the L dimensions of z. Which q(theta) is an axis, `noise=`: `none` is VIB-DeepSSM, which is
    half-Bayesian (z is uncertain and theta is not); `concrete_dropout`, `batch_ensemble` and their combination,
    `dropped_batch_ensemble`, are fully Bayesian. The law of a prediction is moment-matched over K draws of theta with S
    draws of z each. The epistemic part of its variance is the variance over theta of d(e(x)), the aleatoric part the
    rest.

    Adams and Elhabian 2023, "Fully Bayesian VIB-DeepSSM". That p(y|x) has the moments over draws of z, the means in
    the place of sums, beta = 0.01 and the epistemic variance were verified in their code (jadie1/BVIB-DeepSSM:
    bayesian_deepssm.py, losses.py, eval.py); of the paper the abstract alone was at hand.

    Deviations: 1. v, a variance per coordinate, is learned; theirs is 0 but for the draws. 2. No first epochs with
    squared errors in the place of likelihoods, and dropout learns its rate from the first step on. 3. The divergence
    of theta is weighed as the other terms are; theirs is scaled by hand. 4. Their aleatoric part is the variance over z
    without dropout. 5. Batch normalisation is left out.

    Args:
        spec: pictures with points.
        noise: config of a `modules.networks.stochastic.Noise`, for encoder and decoder as one network.
        decoder: config of the network d, from `in_shape` (L,) to `out_shape` (P, 2).
        latent: L; 10, as in their configs.
        beta: weight of the bottleneck; 0.01, as there.
        draws: S; 30 there.
        thetas: K at least, rounded up to a multiple of the members. 16, where they take 30.
        parts: `net` (the encoder), `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: no points, a value out of range.
    """

    batch_type = Pointed
    kinds = ("image",)
    targets = ("points",)
    papers = ("adams2023fully",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        noise: Mapping[str, Any],
        decoder: Mapping[str, Any],
        latent: int = 10,
        beta: float = 0.01,
        draws: int = 16,
        thetas: int = 16,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if latent < 1 or beta < 0 or draws < 2 or thetas < 1:
            raise UserError(
                f"model.latent={latent} beta={beta} draws={draws} thetas={thetas}: at least 1, 0, 2 (for a variance) "
                "and 1."
            )
        self.latent, self.beta, self.draws = latent, beta, draws
        self.noise: Noise = instantiate(noise, where="model.noise")
        assert self.spec.points is not None
        self.net = nn.ModuleDict(
            {
                "encoder": self.build(self.spec.shape, (2 * latent,)),
                "decoder": instantiate(
                    decoder, where="model.decoder", in_shape=(latent,), out_shape=(self.spec.points, 2)
                ),
            }
        )
        self.noise.attach(self.net)
        self.thetas = self.noise.members * math.ceil(thetas / self.noise.members)
        self.rest = Rest(self.spec.points)

    def encode(self, x: Tensor, thetas: int) -> tuple[Tensor, Tensor]:
        """x (B, ...) -> mean and standard deviation of z (thetas, B, L), at weights of their own."""
        mean, log_variance = passes(self.net["encoder"], x, thetas).chunk(2, 2)
        return mean, (log_variance / 2).clamp(-10, 5).exp()

    def decode(self, z: Tensor) -> Tensor:
        """z (thetas, ..., L), thetas in the members' order -> points (thetas, ..., P, 2)."""
        return self.net["decoder"](z.flatten(0, -2)).unflatten(0, z.shape[:-1])

    def draw(self, mean: Tensor, spread: Tensor) -> Tensor:
        """Points at S draws of z (thetas, S, B, P, 2)."""
        noise = torch.randn(len(mean), self.draws, *mean.shape[1:], device=mean.device, dtype=mean.dtype)
        return self.decode(mean[:, None] + spread[:, None] * noise)

    def loss(self, batch: Pointed) -> dict[str, Tensor]:
        mean, spread = self.encode(batch.x, self.noise.members)
        points = self.draw(mean, spread)
        variance = points.var(1, correction=0) + self.rest()
        error = (batch.points - points.mean(1)).square()
        nll = (variance.log() + error / variance + math.log(2 * math.pi)) / 2
        bottleneck = (mean.square() + spread.square() - 1) / 2 - spread.log()
        records = max(1, self.spec.sizes["train"])
        return {
            "nll": nll.mean(),
            "bottleneck": self.beta * bottleneck.mean(),
            "divergence": penalty(self.net).to(nll) / (records * batch.points[0].numel()),
        }

    def predict_points(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, C, H, W) -> mean, epistemic and aleatoric variance (B, P, 2), from torch's global random state."""
        mean, spread = self.encode(x, self.thetas)
        points = self.draw(mean, spread).flatten(0, 1)
        total = points.var(0, correction=0) + self.rest()
        epistemic = torch.minimum(self.decode(mean).var(0, correction=0), total)
        return points.mean(0), epistemic, total - epistemic


class Rest(nn.Module):
    """v, the variance of each coordinate that z does not tell (P, 2); it learns faster, as its logarithm has far to go.

    It begins at 0.1^2: a twentieth of the picture.
    """

    rate_scale = 10.0

    def __init__(self, points: int) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.full((points, 2), math.log(1e-2)))

    def forward(self) -> Tensor:
        return self.log_variance.exp()
