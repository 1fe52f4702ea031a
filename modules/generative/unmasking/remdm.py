"""ReMDM: tokens that were filled in can be masked again, and drawn once more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from modules.generative.unmasking.ancestral import Ancestral, Step

SIGMAS = ("cap", "rescale", "loop")


class ReMDM(Ancestral):
    """Ancestral sampling in which an unmasked token is masked again with probability sigma.

        q(z_s^i | z_t) =  (1 - sigma) [z_t^i] + sigma [m]                                         where z_t^i is not m
                          ((alpha_s - (1 - sigma) alpha_t) p(. | z_t)
                           + (1 - alpha_s - sigma alpha_t) [m]) / (1 - alpha_t)                   where it is

    for 0 <= sigma <= sigma_max = min(1, (1 - alpha_s) / alpha_t). With p the true token, z_s has the marginals of the
    forward process for any sigma, so that a model that was trained for sigma = 0 serves; more steps now mean that each
    token is drawn more often, the last time with all others in sight, and errors are mended.

    - `cap`: sigma = min(eta, sigma_max).
    - `rescale`: sigma = eta sigma_max.
    - `loop`: alpha rises to `alpha_on` until t = `t_on` without remasking, stays there until t = `t_off` with
      sigma = min(eta, sigma_max), and goes on to 1 without remasking.
    - `confidence`: sigma of place i is multiplied by softmax_i(-psi), psi the probability with which its token was
      drawn when it was last filled in; masks count as infinitely sure and are filled in with sigma = 0.

    With `cap` and `rescale` sigma is 0 outside t_off < t <= t_on (the paper's switch). Tokens that were given to
    `complete` are never masked.

    Wang et al. 2025, "Remasking Discrete Diffusion Models with Inference-Time Scaling": equations 6 and 7, section 4.

    Deviations: (1) with `loop` alpha is linear in t within each part whatever the model's schedule, and with
    `confidence` masks have sigma = 0, both as in the authors' code; the latter breaks the marginals; (2) no nucleus
    sampling: the law of the model is drawn from as it is.

    Args:
        steps, precision: see `Ancestral`.
        sigma: `cap`, `rescale` or `loop`.
        eta: in [0, 1]. Default 0.02, the authors' for `loop` at 1024 tokens; it is per step, so that 1 / eta steps
            mask each token once on average.
        t_on, t_off: the window of remasking. Defaults 1 and 0; the authors have 0.55 and 0.05 for `loop`.
        alpha_on: share of unmasked tokens within the loop. Default 0.9, the authors'.
        confidence: weigh sigma by how unsure the model was.

    Raises:
        UserError: an unknown schedule, a number out of its range.
    """

    papers = ("wang2025remasking",)

    def __init__(
        self,
        steps: int = 128,
        precision: str = "float64",
        sigma: str = "cap",
        eta: float = 0.02,
        t_on: float = 1.0,
        t_off: float = 0.0,
        alpha_on: float = 0.9,
        confidence: bool = False,
    ) -> None:
        super().__init__(steps, precision)
        if sigma not in SIGMAS:
            raise UserError(f"model.unmasking.sigma={sigma} is unknown.", f"there are: {', '.join(SIGMAS)}")
        if not 0 <= eta <= 1:
            raise UserError(f"model.unmasking.eta={eta}: it lies in [0, 1].")
        if not 0 <= t_off < t_on <= 1:
            raise UserError(f"model.unmasking: 0 <= t_off < t_on <= 1, not t_off={t_off}, t_on={t_on}.")
        if sigma == "loop" and not (0 < alpha_on < 1 and t_off > 0 and t_on < 1):
            raise UserError(
                f"model.unmasking: a loop has 0 < t_off < t_on < 1 and 0 < alpha_on < 1, not {t_off}, {t_on}, "
                f"{alpha_on}.",
                "model.unmasking.t_on=0.55 model.unmasking.t_off=0.05 are the authors'",
            )
        self.sigma, self.eta, self.t_on, self.t_off = sigma, eta, t_on, t_off
        self.alpha_on, self.confidence = alpha_on, confidence

    def alpha(self, t: float) -> float:
        """Share of unmasked tokens at t of a loop."""
        if t > self.t_on:
            return (1 - t) * self.alpha_on / (1 - self.t_on)
        return self.alpha_on if t > self.t_off else 1 - t * (1 - self.alpha_on) / self.t_off

    def plan(self, model: Any) -> Iterator[Step]:
        for number, step in enumerate(super().plan(model)):
            t = 1 - number / self.steps
            alpha_t, alpha_s = step.alpha_t, step.alpha_s
            if self.sigma == "loop":
                alpha_t, alpha_s = self.alpha(t), self.alpha(1 - (number + 1) / self.steps)
            if not self.t_off < t <= self.t_on:
                yield Step(alpha_t, alpha_s)
                continue
            most = min(1.0, (1 - alpha_s) / alpha_t) if alpha_t else 1.0
            yield Step(alpha_t, alpha_s, self.eta * most if self.sigma == "rescale" else min(self.eta, most))

    def __call__(self, model: Any, z: Tensor) -> Tensor:
        free = z == model.mask
        sure = torch.full(z.shape, torch.inf, device=z.device, dtype=torch.float64)  # psi
        log_p = None
        for step in self.plan(model):
            masked = z == model.mask
            if log_p is None and masked.any():
                log_p = model.log_probs(z)
            sigma = torch.full_like(sure, step.sigma)
            if self.confidence:
                settled = (free & ~masked).any(1, keepdim=True)
                sigma = sigma * torch.where(settled, (-sure).masked_fill(~settled, 0).softmax(1), 0)
                step = step._replace(sigma=0.0)
            again = free & ~masked & (torch.rand(z.shape, device=z.device) < sigma)
            moved = z if log_p is None else torch.where(masked, self.filled(model, z, masked, log_p, step), z)
            new = masked & (moved != model.mask)
            moved = moved.masked_fill(again, model.mask)
            if self.confidence and log_p is not None:
                tokens = moved.masked_fill(~new, 0)[..., None]
                drawn_with = log_p.gather(2, tokens).squeeze(2).exp().double()
                sure = torch.where(new, drawn_with, sure)
            sure = sure.masked_fill(again, torch.inf)
            if not torch.equal(moved, z):
                z, log_p = moved, None
        return z
