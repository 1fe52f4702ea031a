"""Ancestral sampling of masked diffusion: step by step down a grid of times."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from compendium.errors import UserError
from modules.generative.unmasking.categorical import categorical, precision_of


class Step(NamedTuple):
    """From time t down to s: the shares of unmasked tokens, and the probability that one of them is masked again."""

    alpha_t: float
    alpha_s: float
    sigma: float = 0.0

    @property
    def unmask(self) -> float:
        """Probability that a masked token is filled in: (alpha_s - (1 - sigma) alpha_t) / (1 - alpha_t), which keeps
        the share alpha_s = (1 - sigma) alpha_t + (1 - alpha_t) unmask of unmasked tokens that the data have.
        """
        return min(1.0, (self.alpha_s - (1 - self.sigma) * self.alpha_t) / (1 - self.alpha_t))


class Ancestral:
    """Masks are filled in independently, with the probability at which tokens turned into masks.

        q(z_s^i | z_t) =  [z_s^i = z_t^i]                                                         where z_t^i is not m
                          ((alpha_s - alpha_t) p(. | z_t) + (1 - alpha_s) [m]) / (1 - alpha_t)    where it is

    on a grid of `steps` equal steps from t = 1 to 0. All that is filled in within one step is drawn independently;
    with many steps that is rarely more than one token, and the law no longer changes. What is filled in stays.

    One Gumbel-max draw over tokens and mask decides for each masked place, as in the published samplers: with many
    steps the mask leads by far, and a token has to win from the tail of its noise, which few bits cut off.

    Sahoo et al. 2024, "Simple and Effective Masked Diffusion Language Models", section 3.2.1 and the caching of 4.2:
    as long as nothing was filled in, the network is not asked again.

    Args:
        steps: of the grid.
        precision: of the uniform numbers behind the draws, see `categorical`. Default float64, which Zheng et al. call
            for; published samplers had float32.

    Raises:
        UserError: no step, an unknown precision.
    """

    def __init__(self, steps: int = 128, precision: str = "float64") -> None:
        if steps < 1:
            raise UserError(f"model.unmasking.steps={steps}: sampling takes at least one step.")
        self.steps, self.precision = steps, precision_of(precision)

    def plan(self, model: Any) -> Iterator[Step]:
        """The steps from t = 1 to 0."""
        grid = model.masking.alpha(torch.linspace(1, 0, self.steps + 1, dtype=torch.float64)).tolist()
        grid[0], grid[-1] = 0.0, 1.0  # cosines round
        for alpha_t, alpha_s in pairwise(grid):
            yield Step(alpha_t, alpha_s)

    def __call__(self, model: Any, z: Tensor) -> Tensor:
        """z int64 (B, T) -> the same with tokens in the place of masks."""
        log_p = None
        for step in self.plan(model):
            masked = z == model.mask
            if not masked.any():
                break
            if log_p is None:
                log_p = model.log_probs(z)
            moved = torch.where(masked, self.filled(model, z, masked, log_p, step), z)
            if not torch.equal(moved, z):
                z, log_p = moved, None
        return z

    def filled(self, model: Any, z: Tensor, masked: Tensor, log_p: Tensor, step: Step) -> Tensor:
        """z (B, T) after one draw at each masked place: a token, or the mask as before."""
        tokens = log_p[masked] + math.log(max(step.unmask, 1e-300))  # (M, vocabulary)
        stay = tokens.new_full((len(tokens), 1), math.log1p(-step.unmask) if step.unmask < 1 else -math.inf)
        drawn = categorical(torch.cat([tokens, stay], dim=1), self.precision)  # the mask comes after the last token
        return z.masked_scatter(masked, drawn)
