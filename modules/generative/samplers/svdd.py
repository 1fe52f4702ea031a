"""SVDD: of several proposals for each step, one is chosen by what it promises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from modules.generative.gaussian.checkpoints import check_path, opened_for
from modules.generative.gaussian.field import Field
from modules.generative.gaussian.stops import spread
from modules.generative.rewards import named
from modules.generative.samplers.ddpm import DDPM


class SVDD(DDPM):
    """Draws p(x_0) exp(r(x_0) / alpha) / Z, up to the number of proposals, without a slope of r and without training.

    With the soft value v(x_t) = alpha ln E[exp(r(x_0) / alpha) | x_t] the reverse step of that law is that of the model
    times exp(v(x_t) / alpha) / Z. Each step makes M proposals of DDPM's and keeps one, proposal m with probability
    proportional to exp(v(x_t^m) / alpha). In the place of v is

        r(E[x_0 | x_t])     SVDD-PM, which costs an evaluation of the model per proposal, or
        E[r(x_0) | x_t]     SVDD-MC, learned: see `model=generative/soft_value`.

    Li et al. 2024, "Derivative-Free Guidance in Continuous and Discrete Diffusion Models with Soft Value-Based
    Decoding", Algorithm 1 and section 5. In SVDD-PM the posterior mean of the proposal that was kept serves the next
    step too: M evaluations a step. An evaluation of a learned value counts as one of the network.

    Args:
        reward: config of a `modules.generative.rewards.Reward`, for SVDD-PM.
        value: checkpoint of a learned value, for SVDD-MC; None: SVDD-PM.
        proposals: M. Default 20, the authors' for pictures.
        temperature: alpha; 0 keeps the best proposal, as the authors do.
        parts: the arguments of `DDPM`.

    Raises:
        UserError: neither reward nor value, no proposal, a negative temperature; a learned value on another path.
    """

    papers = ("li2024derivative",)

    def __init__(
        self,
        reward: Mapping[str, Any] | None = None,
        value: str | None = None,
        proposals: int = 20,
        temperature: float = 0.0,
        **parts: Any,
    ) -> None:
        super().__init__(**parts)
        if proposals < 1 or temperature < 0:
            raise UserError(
                f"sampler.proposals={proposals} sampler.temperature={temperature}: at least one, and not below 0."
            )
        self.reward = named(reward, "sampler.reward") if value is None else None
        self.learned, self.proposals, self.temperature = value, proposals, temperature

    def step(self, field: Field, x: Tensor, s: Tensor, t: Tensor, memory: dict[str, Any]) -> Tensor:
        known = memory.pop("data", None)
        known = (field.data(x, s) if known is None else known).repeat_interleave(self.proposals, 0)
        proposals = super().step(Field(field.path, lambda *_: known), x.repeat_interleave(self.proposals, 0), s, t, {})
        value, data = self.value(field, proposals, t)
        kept = chosen(value.view(len(x), -1), self.temperature)
        if data is not None:
            memory["data"] = data[kept]
        return proposals[kept]

    def value(self, field: Field, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor | None]:
        """Proposals (B M, ...) at the time t -> values (B M,), and E[x_0 | x_t] where they come from it."""
        if self.learned is None:
            data = field.data(x, t)
            field.calls += field.cost * (self.proposals - 1)
            assert self.reward is not None
            return self.reward(data), data
        judge = opened_for(self.learned, x)
        check_path(judge.path, field.path, f"sampler.value={self.learned}")
        field.calls += self.proposals
        return judge.value_at(x, spread(t, x)), None


def chosen(value: Tensor, temperature: float) -> Tensor:
    """Values (B, M) -> for each row b the place b M + m of one (B,), with probability softmax(value / temperature)."""
    log_weight = value.double()
    if temperature:
        # Gumbel's trick; a temperature of 0 needs no noise, and breaks ties by the first.
        log_weight = log_weight / temperature - torch.empty_like(log_weight).exponential_().log()
    return log_weight.argmax(1) + value.shape[1] * torch.arange(len(value), device=value.device)
