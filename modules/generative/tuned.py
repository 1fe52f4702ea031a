"""A trained diffusion model whose network gets low-rank changes, tuned by the reward of its own draws."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from compendium.config import instantiate
from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.diffusion import Diffusion
from modules.generative.gaussian.checkpoints import check_path
from modules.generative.gaussian.model import GaussianModel
from modules.generative.rewards import Reward


class LowRank(nn.Module):
    """A weight plus up @ down, of rank `rank`: LoRA (Hu et al. 2022). It begins as the weight.

    Args:
        weight: (out, ...).
        rank: of the change, cut down to the smaller side of the weight.
    """

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        flat = weight.flatten(1)
        rank = min(rank, *flat.shape)
        self.down = nn.Parameter(torch.randn(rank, flat.shape[1]) / flat.shape[1] ** 0.5)
        self.up = nn.Parameter(torch.zeros(flat.shape[0], rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.up @ self.down).view_as(weight)


def adapted(net: nn.Module, rank: int) -> nn.Module:
    """The network, frozen, with a low-rank change to the weight of each linear and convolutional layer."""
    net.requires_grad_(False)
    for layer in [part for part in net.modules() if isinstance(part, nn.Linear | nn.Conv2d)]:
        parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, rank))
    return net


class TunedDiffusion(GaussianModel):
    """The parent of what tunes a model by rewards: batches only say how many draws a step makes, one per record.

    Args:
        spec: images or vectors.
        reward: config of a `modules.generative.rewards.Reward`.
        model: checkpoint of a `Diffusion`, whose path is `path`; None: a new one, of the network that `net` says.
        rank: of the changes. Default 4, diffusers' for LoRA.
        parts: the arguments of `GaussianModel`, and `net`, `optimizer`, `schedule`.

    Raises:
        UserError: no rank, a model on another path, or without a network.
    """

    batch_type = Unlabelled

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        reward: Mapping[str, Any],
        model: str | None = None,
        rank: int = 4,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if rank < 1:
            raise UserError(f"model.rank={rank}: at least 1.")
        self.reward: Reward = instantiate(reward, where="model.reward")
        axes = ("path", "sampler", "timesteps", "guidance", "net")
        self.inner = trained(model, spec, {name: parts[name] for name in axes if name in parts})
        check_path(self.inner.path, self.path, f"model.model={model}")
        adapted(self.inner.net, rank)

    @abstractmethod
    def loss(self, batch: Unlabelled) -> dict[str, Tensor] | Tensor:
        """What the changes descend."""

    def denoise(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return self.inner.denoise(x, t, y)


def trained(model: str | None, spec: DataSpec | Mapping[str, Any], parts: Mapping[str, Any]) -> Diffusion:
    """The model of a checkpoint, or a new one."""
    return Diffusion(spec, **parts) if model is None else Diffusion.load_from_checkpoint(model)
