"""Residual tokens drawn many at a time: masked from the last depth to the first, predicted by their sum."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.generative.token_pictures import TokenPictures

LOG_2PI = math.log(2 * math.pi)
ORDERS = ("random", "confidence")


class ResGen(TokenPictures):
    """Of the D tokens at place i the last k_i are masked; one pass predicts the sum of their vectors, not each of them.

        n = ceil(cos(pi u / 2) L D),   (k_1 ... k_L) ~ the places of n slots out of L D, drawn without replacement
        z_i = sum over the last k_i depths of e_j(k_ij)
        loss = -ln p(z_i | the other vectors, summed up per place)  for k_i > 0,  p a mixture of Gaussians

    A draw begins with all masked. In each of `steps` steps z_i is drawn at all places, its tokens are the nearest
    vectors of depth after depth, and all but the next n of them stay: the cost does not depend on D.

    Kim et al. 2025, "Efficient Generative Modeling with Residual Vector Quantization-Based Tokens".

    Deviations: (1) the paper's text was not at hand, and what goes beyond its abstract and a summary of its core is our
    own reading: the cosine schedule (of MaskGIT), the confidence of a token (the log density of z_i per dimension, plus
    Gumbel noise that falls to 0 over the steps), and that slots of a place are unmasked from the first depth on;
    (2) no guidance; (3) components have one variance for all dimensions, and are kept apart by a mean of their own
    that is added to the network's.

    Args:
        spec: pictures in classes.
        tokenizer: see `TokenPictures`.
        components: of the mixture.
        steps: of a draw, at least 1.
        order: what stays: `random` slots, the reverse of the masking, or those of the highest `confidence`.
        temperature: of the Gumbel noise in the first step.
        parts: `net`, of pictures of L places (such as dit with patch 1), `optimizer`, `schedule`.

    Raises:
        UserError: no step, no component, or an unknown order.
    """

    papers = ("kim2025efficient",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        tokenizer: str | None = None,
        components: int = 16,
        steps: int = 12,
        order: str = "confidence",
        temperature: float = 2.0,
        **parts: Any,
    ) -> None:
        super().__init__(spec, tokenizer=tokenizer, **parts)
        if steps < 1 or components < 1:
            raise UserError(f"model.steps={steps} model.components={components}: at least 1 of both.")
        if order not in ORDERS:
            raise UserError(f"model.order={order} is unknown.", f"there are: {', '.join(ORDERS)}")
        self.components, self.steps, self.order, self.temperature = components, steps, order, temperature
        features = self.tokenizer.features
        self.centres = nn.Parameter(0.5 * torch.randn(components, features))
        self.net = self.build(
            (features + 1, *self.grid),
            (components * (features + 2), *self.grid),
            time=True,
            classes=len(self.spec.classes),
        )

    # Masks

    def masked(self, n: Tensor) -> Tensor:
        """How many of L D slots (B,) -> how many are masked at each place int64 (B, L), drawn evenly."""
        slots = self.length * self.depth
        rank = torch.rand(len(n), slots, device=n.device).argsort(1).argsort(1)
        return (rank < n[:, None]).unflatten(1, (self.length, self.depth)).sum(2)

    def hidden(self, k: Tensor) -> Tensor:
        """Masks per place (B, L) -> whether each token is masked, bool (B, L, D)."""
        return torch.arange(self.depth, device=k.device) >= self.depth - k[..., None]

    # Predictions

    def mixture(self, seen: Tensor, k: Tensor, y: Tensor) -> torch.distributions.MixtureSameFamily:
        """Sums of the vectors that are seen (B, L, features), masks k (B, L), classes y (B,) -> law of z (B, L)."""
        share = k / self.depth
        inputs = torch.cat([seen, share[..., None]], 2).mT.unflatten(2, self.grid)
        out = self.net(inputs, share.mean(1), y).flatten(2).mT.float().unflatten(2, (self.components, -1))
        weight, log_std, shift = out.split((1, 1, self.tokenizer.features), 3)
        normal = torch.distributions.Normal(self.centres + shift, log_std.clamp(-5, 3).exp())
        return torch.distributions.MixtureSameFamily(
            torch.distributions.Categorical(logits=weight.squeeze(3), validate_args=False),
            torch.distributions.Independent(normal, 1, validate_args=False),
            validate_args=False,
        )

    def loss(self, batch: Labelled) -> Tensor:
        """-ln p(z) in nats per dimension of z, over the places where something is masked."""
        vectors = self.tokenizer.vectors(self.tokenizer.tokens(batch.x))
        share = torch.cos(0.5 * math.pi * torch.rand(len(vectors), device=vectors.device))
        k = self.masked((share * self.length * self.depth).ceil().clamp(min=1))
        hidden = self.hidden(k)[..., None]
        law = self.mixture((vectors * ~hidden).sum(2), k, batch.y)
        log_prob = law.log_prob((vectors * hidden).sum(2))
        return -(log_prob * (k > 0)).sum() / ((k > 0).sum() * self.tokenizer.features)

    # Draws

    def quantized(self, z: Tensor, hidden: Tensor, tokens: Tensor) -> Tensor:
        """The tokens (B, L, D) with the hidden ones replaced: depth after depth the nearest to what is left of z."""
        books, tokens, left = self.tokenizer.books(), tokens.clone(), z
        for j in range(self.depth):
            nearest = torch.cdist(left, books[j].expand(len(left), -1, -1)).argmin(2)
            tokens[..., j] = torch.where(hidden[..., j], nearest, tokens[..., j])
            left = torch.where(hidden[..., j, None], left - books[j][nearest], left)
        return tokens

    def kept(self, confidence: Tensor, k: Tensor, n: int, temperature: float) -> Tensor:
        """Confidence (B, L), masks k (B, L) -> masks per place (B, L), n in all, of those that there are."""
        noise = -torch.empty(*k.shape, self.depth, device=k.device).exponential_().log()  # Gumbel
        score = noise if self.order == "random" else confidence[..., None] + temperature * noise
        score = score.masked_fill(~self.hidden(k), math.inf).flatten(1)
        rank = score.argsort(1).argsort(1).unflatten(1, (self.length, self.depth))
        return (rank < n).sum(2)

    def tokens_of(self, y: Tensor) -> Tensor:
        tokens = torch.zeros(len(y), self.length, self.depth, dtype=torch.long, device=y.device)
        k = torch.full(tokens.shape[:2], self.depth, device=y.device)
        for step in range(1, self.steps + 1):
            hidden = self.hidden(k)
            law = self.mixture((self.tokenizer.vectors(tokens) * ~hidden[..., None]).sum(2), k, y)
            z = law.sample()
            tokens = self.quantized(z, hidden, tokens)
            n = math.floor(math.cos(0.5 * math.pi * step / self.steps) * self.length * self.depth + 1e-6)
            k = self.kept(law.log_prob(z) / self.tokenizer.features, k, n, self.temperature * (1 - step / self.steps))
        self.evaluations = self.steps
        return tokens
