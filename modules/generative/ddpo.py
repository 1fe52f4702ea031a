"""DDPO: a model is tuned by policy gradients, its chain of draws being the policy's actions."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from datamodules.batches import Unlabelled
from modules.generative.gaussian.field import Field
from modules.generative.gaussian.stops import Stops, between
from modules.generative.samplers.ddpm import DDPM
from modules.generative.tuned import TunedDiffusion

ANCESTRAL = DDPM()


class DDPO(TunedDiffusion):
    """Ascends E r(x_0) by E[A sum_t grad ln p(x_t | x_s)] over the steps s -> t of ancestral draws.

    p(x_t | x_s) is the Gaussian of DDPM's step, and A the reward minus its mean over the batch, divided by its standard
    deviation. It asks for no slope of r.

    Black et al. 2024, "Training Diffusion Models with Reinforcement Learning", section 4.3, the score function
    estimator.

    Deviations: (1) one step of the optimizer per batch of draws, with which the paper's importance sampling and its
    clipping change nothing; (2) the batch's own mean and deviation, as there are no prompts to keep them for; (3) the
    last step, from the smallest noise to the record, is deterministic and has no gradient.

    Args: see `TunedDiffusion`. The sampler is that of the draws after training; those of training are ancestral.
    """

    def loss(self, batch: Unlabelled) -> Tensor:
        field, steps = self.field(), list(pairwise(Stops(self.grid).all))
        with torch.no_grad():
            x = field.prior(len(batch.x), self.spec.shape, self.like)
            chain = [x]
            for s, t in steps:
                mean, std = ancestral(field, chain[-1], s, t)
                chain.append(mean + std * torch.randn_like(mean))
            rewards = self.reward(field.data(chain[-1], self.grid[-1]) if self.sampler.denoise else chain[-1])
            advantage = (rewards - rewards.mean()) / rewards.std(correction=0).clamp_min(1e-8)
        log_prob = torch.zeros_like(advantage)
        for (s, t), before, after in zip(steps, chain[:-1], chain[1:], strict=True):
            mean, std = ancestral(field, before, s, t)
            log_prob = log_prob - 0.5 * ((after - mean) / std).flatten(1).square().sum(1)
        return -(advantage * log_prob).mean()


def ancestral(field: Field, x: Tensor, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (B, ...) and standard deviation of DDPM's x_t given x_s = x."""
    of_x, of_data, std = between(ANCESTRAL.coefficients, field.path, s, t)
    return of_x * x + of_data * field.data(x, s), std
