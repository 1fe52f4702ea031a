"""Masked diffusion: tokens turn into masks, and a network fills them in."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from compendium.config import instantiate
from compendium.errors import UserError
from datamodules.batches import Tokens
from datamodules.spec import DataSpec
from modules.method import Method

HALF_PI = math.pi / 2


class MaskSchedule(NamedTuple):
    """How tokens survive. `alpha(t)`: probability that a token is not yet masked, 1 at t = 0 and 0 at t = 1;
    `weight(t)` = -alpha'(t) / (1 - alpha(t)).
    """

    alpha: Callable[[Tensor], Tensor]
    weight: Callable[[Tensor], Tensor]


SCHEDULES = {
    "linear": MaskSchedule(lambda t: 1 - t, lambda t: 1 / t),
    "cosine": MaskSchedule(
        lambda t: 1 - torch.cos(HALF_PI * (1 - t)), lambda t: HALF_PI * torch.tan(HALF_PI * (1 - t))
    ),
}
"""Sahoo et al. 2024, appendix on noise schedules; both bounds are the same, their estimates vary differently."""


class MaskedDiffusion(Method):
    """Each of T tokens x^i turns into the mask m at a random time; the reverse fills the masks in.

        q(z_t^i | x^i) = alpha_t [z^i = x^i] + (1 - alpha_t) [z^i = m]

    One network gives p(x^i | z) for all places at once. It has no output for m, and what is not masked stays as it is
    (the two substitutions of Sahoo et al. 2024). In continuous time the negative log-likelihood is at most

        E_t  -alpha'_t / (1 - alpha_t)  sum over masked i of -ln p(x^i | z_t)
        =  sum_{n=1..T} (1 / n) E_{z with n masks}  sum over masked i of -ln p(x^i | z)

    The second form has no time in it: any schedule gives the same bound, the network needs no t, and the bound is the
    likelihood of an autoregressive model in random order, averaged over the orders (Zheng et al. 2024; Ou et al. 2024).
    The loss is the first form and `sequence_log_prob` the second, each divided as said there. Where p is the exact
    conditional of the data, the bound is their entropy.

    Draws: `model.unmasking` is a sampler of `modules.generative.unmasking`; a trained model takes any.

    Sahoo et al. 2024, "Simple and Effective Masked Diffusion Language Models": equations 3, 8 and 10, section 3.2.3;
    Zheng et al. 2024, "Masked Diffusion Models are Secretly Time-Agnostic Masked Models": section 3.

    Deviations: (1) t is stratified over the batch, of the same expectation; (2) t stays above `margin`, as in the
    authors' code, which leaves out that share of the integral; (3) of a batch's windows of T + 1 tokens the last T are
    modelled, those that an autoregressive model predicts, but without the first one as their context.

    Args:
        spec: text, with the vocabulary of its presentation.
        unmasking: config of the sampler.
        schedule_of_masks: alpha, `linear` or `cosine`.
        bound_draws: patterns of masks per record in `sequence_log_prob`.
        margin: least t in training. Default 1e-3, the authors' code.
        parts: `net` (it gets one more token, the mask, and sees both sides), `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: an unknown schedule, no draw for the bound.
    """

    batch_type = Tokens
    kinds = ("text",)
    targets = (None,)
    papers = ("zheng2024masked",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        unmasking: Mapping[str, Any] | None = None,
        schedule_of_masks: str = "linear",
        bound_draws: int = 8,
        margin: float = 1e-3,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if schedule_of_masks not in SCHEDULES:
            raise UserError(
                f"model.schedule_of_masks={schedule_of_masks} is unknown.", f"there are: {', '.join(SCHEDULES)}"
            )
        if bound_draws < 1:
            raise UserError(f"model.bound_draws={bound_draws}: the bound takes at least one pattern of masks.")
        if not 0 < margin < 1:
            raise UserError(f"model.margin={margin}: the least t lies between 0 and 1.")
        self.masking = SCHEDULES[schedule_of_masks]
        self.unmasking = instantiate(
            unmasking or {"_target_": "modules.generative.unmasking.ancestral.Ancestral"}, where="model.unmasking"
        )
        self.bound_draws, self.margin = bound_draws, margin
        (self.length,) = self.spec.shape
        self.mask = int(self.spec.vocabulary or 0)  # the token after the last of the data
        self.net = self.build(self.spec.shape, (self.mask + 1,), causal=False)

    def log_probs(self, z: Tensor) -> Tensor:
        """z int64 (B, T) with masks -> ln p(x^i | z) of all tokens but the mask (B, T, vocabulary), float.

        Those at places that are not masked mean nothing: whoever asks keeps the token that is there.
        """
        return self.net(z)[..., : self.mask].float().log_softmax(2)

    def hidden(self, x: Tensor, masked: Tensor) -> Tensor:
        """-ln p(x^i | z) at the masked places i, 0 at the others: x int64 (B, T), masked bool (B, T) -> (B, T)."""
        log_p = self.log_probs(x.masked_fill(masked, self.mask))
        return -log_p.gather(2, x[..., None]).squeeze(2) * masked

    # Training

    def maskable(self, x: Tensor) -> Tensor:
        """Which places of x int64 (B, T) may be masked: bool (B, T)."""
        return torch.ones_like(x, dtype=torch.bool)

    def loss(self, batch: Tokens) -> Tensor:
        """The bound, nats per token that may be masked."""
        x = batch.ids[:, 1:]
        count = len(x)
        strata = (torch.arange(count, device=x.device) + torch.rand(1, device=x.device)) / count
        t = self.margin + (1 - self.margin) * strata
        maskable = self.maskable(x)
        masked = (torch.rand(x.shape, device=x.device) >= self.masking.alpha(t)[:, None]) & maskable
        return (self.masking.weight(t)[:, None] * self.hidden(x, masked)).sum() / maskable.sum()

    # Likelihood

    @torch.no_grad()
    def sequence_log_prob(self, x: Tensor) -> Tensor:
        """x int64 (B, T) -> an unbiased estimate of a lower bound of ln p(x) (B,), nats, from `bound_draws` patterns.

        A pattern hides n tokens without replacement, with n uniform in 1 ... T and stratified over the patterns, and
        counts T / n times what they cost: equation 6 of Nie et al. 2025, whose variance is below that of the loss.
        """
        length, draws = x.shape[1], self.bound_draws
        total = torch.zeros(len(x), device=x.device, dtype=torch.float64)
        for stratum in range(draws):
            u = (stratum + torch.rand(len(x), 1, device=x.device)) / draws
            n = 1 + (u * length).long().clamp(max=length - 1)
            rank = torch.rand(x.shape, device=x.device).argsort(1).argsort(1)
            total += length / n.squeeze(1).double() * self.hidden(x, rank < n).double().sum(1)
        return -total / draws

    # Sampling

    @torch.no_grad()
    def complete(self, z: Tensor) -> Tensor:
        """z int64 (B, T), `self.mask` wherever a token is to be drawn -> the same with tokens there (B, T)."""
        return self.unmasking(self, z)

    def sample(self, n: int) -> Tensor:
        """n draws int64 (n, T)."""
        return self.complete(torch.full((n, self.length), self.mask, device=self.device))
