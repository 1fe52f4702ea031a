"""Predictor-corrector guidance: what classifier-free guidance is."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from compendium.errors import UserError
from modules.generative.gaussian.field import Field
from modules.generative.guidance.base import Pair
from modules.generative.samplers.annealed_langevin import langevin
from modules.generative.samplers.base import Sampler
from modules.generative.samplers.ddim import moved


class PredictorCorrector(Sampler):
    """Denoises the conditional law by DDIM, and sharpens by Langevin steps on the powered law, in turns.

        predictor   x at s -> x at t by DDIM for p(x | y)
        corrector   `corrections` times: x <- x + e / 2 score_t(x) + sqrt(e) z,   e = g^2(t) (s - t)

    where score = (1 - scale) score(x) + scale score(x | y) is that of p_t(x | y)^scale p_t(x)^(1 - scale), the field of
    `guidance=classifier_free`. With one correction a step and in the limit of small ones it is the reverse SDE under
    classifier-free guidance of (1 + scale) / 2; with many corrections a step it samples the powered law at each time.

    Bradley and Nakkiran 2024, "Classifier-Free Guidance is a Predictor-Corrector": Algorithm 1 (PCG with DDIM), and
    its theorem that DDPM with guidance gamma is PCG with 2 gamma - 1.

    Args:
        corrections: Langevin steps after each step of DDIM, at least 0.
        parts: the arguments of `Sampler`.

    Raises:
        UserError: a negative number of corrections, another guidance.
    """

    papers = ("bradley2024classifier",)

    def __init__(self, corrections: int = 1, **parts: Any) -> None:
        super().__init__(**parts)
        if corrections < 0:
            raise UserError(f"sampler.corrections={corrections}: at least 0.")
        self.corrections = corrections

    def step(self, field: Field, x: Tensor, s: Tensor, t: Tensor, memory: dict[str, Any]) -> Tensor:
        if not isinstance(field, Pair):
            raise UserError(
                "sampler=predictor_corrector alternates a class with its guided law, and there is no guidance.",
                "choose guidance=classifier_free",
            )
        x = moved(field, field.conditional(x, s), x, s, t)
        return langevin(field, x, t, field.path.diffusion(t)[1] * (s - t), self.corrections)
