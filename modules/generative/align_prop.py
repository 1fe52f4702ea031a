"""AlignProp: a model is tuned by the slope of a reward through its whole chain of draws."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.gaussian.stops import Stops
from modules.generative.tuned import TunedDiffusion


class AlignProp(TunedDiffusion):
    """Ascends E r(x_0), x_0 drawn by the sampler from noise, with the gradient through its last K steps.

    The changes to the network are of low rank, and each step's activations are computed anew on the way back, so that
    memory grows by one record per step instead of all activations. K is drawn evenly from 1 to the number of steps in
    each training step (`truncation` None), or is a number; the steps before pass on no gradient.

    Prabhudesai et al. 2023, "Aligning Text-to-Image Diffusion Models with Reward Backpropagation", section 4.

    Deviations: (1) there are no prompts; (2) the steps before the last K are cut off whole, where the authors cut off
    what the network predicts in them, which gives the weights the same gradient; (3) low-rank changes are our own
    twelve lines instead of peft's; (4) the last step, from the smallest noise to the record, is always among the K.

    Args:
        spec: images or vectors.
        reward: config of a `modules.generative.rewards.Reward` with a slope.
        model: see `TunedDiffusion`.
        rank: see `TunedDiffusion`.
        truncation: K; None: random; at least the number of steps: none.
        recompute: whether activations are computed anew on the way back, which changes no gradient.
        parts: the arguments of `GaussianModel`; a sampler that looks at one step alone, such as `ddim`.

    Raises:
        UserError: no step with a gradient.
    """

    papers = ("prabhudesai2023aligning",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        reward: Mapping[str, Any],
        model: str | None = None,
        rank: int = 4,
        truncation: int | None = None,
        recompute: bool = True,
        **parts: Any,
    ) -> None:
        super().__init__(spec, reward=reward, model=model, rank=rank, **parts)
        if truncation is not None and truncation < 1:
            raise UserError(f"model.truncation={truncation}: the gradient goes through at least one step.")
        self.truncation, self.recompute = truncation, recompute

    def loss(self, batch: Unlabelled) -> Tensor:
        return -self.reward(self.rollout(len(batch.x))).mean()

    def rollout(self, n: int) -> Tensor:
        """n draws (n, ...), with a graph through the last K steps."""
        field, times = self.field(), Stops(self.grid).all
        x = field.prior(n, self.spec.shape, self.like)
        steps = list(pairwise(times))
        most = len(steps) + 1
        kept = int(torch.randint(1, most + 1, ())) if self.truncation is None else min(self.truncation, most)
        for i, (s, t) in enumerate(steps):
            with torch.set_grad_enabled(i >= most - kept):
                x = self.step(lambda y, s=s, t=t: self.sampler.step(field, y, s, t, {}), x)
        return self.step(lambda y: field.data(y, times[-1]), x) if self.sampler.denoise else x

    def step(self, work: Any, x: Tensor) -> Tensor:
        """work(x), whose activations are kept, or not."""
        return checkpoint(work, x, use_reentrant=False) if self.recompute and torch.is_grad_enabled() else work(x)
