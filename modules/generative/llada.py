"""LLaDA: masked diffusion as a large language model, pre-trained and fine-tuned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.spec import DataSpec
from modules.generative.masked_diffusion import MaskedDiffusion


class LLaDA(MaskedDiffusion):
    """Each token is masked with probability t, t ~ U(0, 1), and a transformer without a causal mask fills all masks in.

        loss = -E_t (1 / t) sum over masked i of ln p(x^i | x_t)      at least the negative log-likelihood

    Pre-training masks every token. Supervised fine-tuning leaves the first `prompt` tokens, the prompt, as they are and
    masks the response: the same loss, of p(response | prompt). Draws are made by `model.unmasking`, by default the
    paper's: the surest predictions are kept, see `modules.generative.unmasking.low_confidence`. Any part of a text
    can be given and the rest asked for (`complete`): there is no direction in which the model has learned a fact.

    Nie et al. 2025, "Large Language Diffusion Models": equations 3 (pre-training), 5 (fine-tuning) and 6 (likelihood).

    Deviations: (1) those of `MaskedDiffusion`; (2) the architecture is GPT-2's, without the causal mask, where the
    paper has LLaMA's; (3) all texts have the full length: the paper cuts 1% of them to a random one; (4) prompts have
    the same length in all records.

    Args:
        prompt: tokens at the beginning that are never masked; 0: pre-training.
        parts: the arguments of `MaskedDiffusion`; `schedule_of_masks` is linear.

    Raises:
        UserError: a prompt that leaves no response.
    """

    papers = ("nie2025large",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        unmasking: Mapping[str, Any] | None = None,
        prompt: int = 0,
        bound_draws: int = 8,
        margin: float = 1e-3,
        **parts: Any,
    ) -> None:
        unmasking = unmasking or {"_target_": "modules.generative.unmasking.low_confidence.LowConfidence"}
        super().__init__(spec, unmasking, bound_draws=bound_draws, margin=margin, **parts)
        if not 0 <= prompt < self.length:
            raise UserError(f"model.prompt={prompt}: of {self.length} tokens at least one is the response.")
        self.prompt = prompt

    def maskable(self, x: Tensor) -> Tensor:
        return (torch.arange(x.shape[1], device=x.device) >= self.prompt).expand(x.shape)
