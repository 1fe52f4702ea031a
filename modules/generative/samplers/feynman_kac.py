"""Feynman-Kac correctors: a guided SDE whose records are weighted and resampled."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from modules.generative.gaussian.field import Field
from modules.generative.gaussian.stops import Stops, remembering
from modules.generative.samplers.base import Sampler


class FeynmanKac(Sampler):
    """Makes draws follow the annealed, guided or product law itself, where following its score alone does not.

    The records are particles of the reverse SDE along the score s of the law q_t that the guidance stands for,

        dx = (-f x + g^2 s) dt + g dW,   d log w = g^2 rate(x) dt     with t running back

    and the weights w make up for what is missing in its Fokker-Planck equation. With the scores s_1 and s_2 of the two
    laws that are put together, rate is

        q = p^b             b (b - 1) / 2 |s|^2
        q = p_1^b p_2^(1-b)   b (b - 1) / 2 |s_1 - s_2|^2
        q = p_1 p_2         s_1 . s_2

    up to terms in div f, which are the same for all particles, as f is linear. Where the effective sample size falls
    below `threshold` of the particles, they are resampled systematically.

    Skreta et al. 2025, "Feynman-Kac Correctors in Diffusion: Annealing, Guidance, and Product of Experts", section 3.
    The rates are rederived here from the Fokker-Planck equation, and tested against closed forms. Deviations: (1) the
    particles are those of one call; a call's draws are not independent. (2) They are resampled when few are left, and
    once more at the end, where the authors resample at every step of an interval of times.

    Args:
        threshold: share of the particles, from 0 (only at the end) to 1 (after each step).
        parts: the arguments of `Sampler`.

    Raises:
        UserError: a guidance that stands for no such law.
    """

    papers = ("skreta2025feynman",)

    def __init__(self, threshold: float = 0.5, **parts: Any) -> None:
        super().__init__(**parts)
        self.threshold = threshold

    def step(self, field: Field, x: Tensor, s: Tensor, t: Tensor, memory: dict[str, Any]) -> Tensor:
        if not hasattr(field, "scored"):
            raise UserError(
                "sampler=feynman_kac corrects a guided law, and this guidance stands for none.",
                "choose guidance=annealed, classifier_free or product",
            )
        drift, squared = field.path.diffusion(s)
        score, rate = field.scored(x, s)
        back = s - t
        log_weight = memory["log_weight"] + squared * back * rate
        x = x + back * (squared * score - drift * x) + (squared * back).sqrt() * torch.randn_like(x)
        if effective(log_weight) < self.threshold * len(x):
            x, log_weight = x[systematic(log_weight)], torch.zeros_like(log_weight)
        memory["log_weight"] = log_weight
        return x

    def sample(self, field: Field, x: Tensor, times: Tensor) -> Tensor:
        memory: dict[str, Any] = {"log_weight": x.new_zeros(len(x))}
        field.path, stops = remembering(field.path), Stops(times).all
        for s, t in pairwise(stops):
            x = self.step(field, x, s, t, memory)
        x = x[systematic(memory["log_weight"])]
        return field.data(x, stops[-1]) if self.denoise else x


def effective(log_weight: Tensor) -> Tensor:
    """Effective sample size of weights (N,): (sum w)^2 / sum w^2, a number from 1 to N."""
    return (2 * log_weight.logsumexp(0) - (2 * log_weight).logsumexp(0)).exp()


def systematic(log_weight: Tensor) -> Tensor:
    """Rows (N,), particle i about N w_i times: one uniform number places N equally spaced points on the weights."""
    count = len(log_weight)
    ends = log_weight.double().softmax(0).cumsum(0)
    points = (torch.arange(count, device=ends.device) + torch.rand((), device=ends.device)) / count
    return torch.searchsorted(ends, points).clamp_max(count - 1)
