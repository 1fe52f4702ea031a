"""LLaDA's sampler: fill everything in, keep what is surest, mask the rest again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from modules.generative.unmasking.categorical import categorical, precision_of

REMASKING = ("low_confidence", "random")


class LowConfidence:
    """In each step all masks are predicted, the surest predictions stay, and the others are masked again.

    A prediction is the likeliest token, or with a temperature tau a draw from p^{1 / tau}; how sure it is, is p of it
    (`low_confidence`), or a random number (`random`). Each step keeps the same number of tokens but for a remainder,
    which goes to the first steps. With blocks, the text is filled in block by block from left to right, each with its
    share of the steps: semi-autoregressive. With guidance w and a prompt,

        ln p  proportional to  (1 + w) ln p(. | z) - w ln p(. | z with its prompt masked)

    where the prompt are all tokens that were given to `complete`.

    Nie et al. 2025, "Large Language Diffusion Models": section 2.4, appendix on sampling, and the authors' code.

    Deviations: (1) where records have different numbers of masks in a block, those with fewer are done earlier.

    Args:
        steps: in all, at least one per block.
        temperature: 0 for the likeliest token, the paper's choice for tasks.
        block: tokens per block, None for one block.
        remasking: `low_confidence` or `random`.
        guidance: w, at least 0.
        precision: see `categorical`.

    Raises:
        UserError: an unknown choice, a number out of its range.
    """

    papers = ("nie2025large",)

    def __init__(
        self,
        steps: int = 32,
        temperature: float = 0.0,
        block: int | None = None,
        remasking: str = "low_confidence",
        guidance: float = 0.0,
        precision: str = "float64",
    ) -> None:
        if remasking not in REMASKING:
            raise UserError(f"model.unmasking.remasking={remasking} is unknown.", f"there are: {', '.join(REMASKING)}")
        for name, value, least in (
            ("steps", steps, 1),
            ("block", block, 1),
            ("temperature", temperature, 0),
            ("guidance", guidance, 0),
        ):
            if value is not None and value < least:
                raise UserError(f"model.unmasking.{name}={value}: it is at least {least}.")
        self.steps, self.temperature, self.block, self.remasking = steps, temperature, block, remasking
        self.guidance, self.precision = guidance, precision_of(precision)

    def __call__(self, model: Any, z: Tensor) -> Tensor:
        """z int64 (B, T) -> the same with tokens in the place of masks."""
        length = z.shape[1]
        block = min(self.block or length, length)
        starts = range(0, length, block)
        steps = max(1, self.steps // len(starts))
        prompt = z != model.mask
        place = torch.arange(length, device=z.device)
        for start in starts:
            inside = (place >= start) & (place < start + block)
            left = ((z == model.mask) & inside).sum(1)
            each, more = left // steps, left % steps
            for step in range(steps):
                masked = (z == model.mask) & inside
                if not masked.any():
                    break
                tokens, sure = self.predict(model, z, prompt)
                rank = sure.masked_fill(~masked, -torch.inf).argsort(1, descending=True).argsort(1)
                kept = masked & (rank < (each + (step < more))[:, None])
                z = torch.where(kept, tokens, z)
        return z

    def predict(self, model: Any, z: Tensor, prompt: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens for all places, and how sure each is: (B, T) both."""
        log_p = model.log_probs(z)
        if self.guidance and prompt.any():
            without = model.log_probs(z.masked_fill(prompt, model.mask))
            log_p = ((1 + self.guidance) * log_p - self.guidance * without).log_softmax(2)
        if self.temperature:
            tokens = categorical(log_p / self.temperature, self.precision)
        else:
            tokens = log_p.argmax(2)
        if self.remasking == "random":
            return tokens, torch.rand(z.shape, device=z.device)
        return tokens, log_p.gather(2, tokens[..., None]).squeeze(2)
