"""A trained diffusion model whose network gets low-rank changes, tuned by the reward of its own draws."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from compendium.config import instantiate
from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.diffusion import Diffusion
from modules.generative.gaussian.checkpoints import check_path
from modules.generative.gaussian.model import GaussianModel
from modules.generative.rewards import Reward
from modules.networks.adapters.low_rank import LowRank


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
        LowRank(rank).attach(self.inner.net)

    @abstractmethod
    def loss(self, batch: Unlabelled) -> dict[str, Tensor] | Tensor:
        """What the changes descend."""

    def denoise(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return self.inner.denoise(x, t, y)


def trained(model: str | None, spec: DataSpec | Mapping[str, Any], parts: Mapping[str, Any]) -> Diffusion:
    """The model of a checkpoint, or a new one."""
    return Diffusion(spec, **parts) if model is None else Diffusion.load_from_checkpoint(model)
