"""What models of a picture's residual tokens have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.config import instantiate
from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.generative.residual_vq import ResidualVQ
from modules.method import Method

TOKENIZER: dict[str, Any] = {"_target_": "modules.generative.residual_vq.ResidualVQ"}


class TokenPictures(Method, ABC):
    """A model of the tokens (L, D) of pictures in classes, which a frozen `ResidualVQ` turns back into pictures.

    Args:
        spec: pictures in classes; what the tokenizer was trained on.
        tokenizer: checkpoint of a `ResidualVQ`; None: an untrained one, for its shape.
        parts: the arguments of `Method`.

    Raises:
        UserError: a checkpoint of something else, or of other pictures.
    """

    batch_type = Labelled
    kinds = ("image",)
    targets = ("class",)

    def __init__(self, spec: DataSpec | Mapping[str, Any], tokenizer: str | None = None, **parts: Any) -> None:
        super().__init__(spec, **parts)
        self.tokenizer: ResidualVQ = tokenizer_of(self.spec, tokenizer)
        self.depth, self.codes, self.grid = self.tokenizer.depth, self.tokenizer.codes, self.tokenizer.grid
        self.length = self.grid[0] * self.grid[1]
        self.evaluations = 0

    def train(self, mode: bool = True) -> TokenPictures:
        """The tokenizer's vectors would follow the records: it stays in evaluation."""
        super().train(mode)
        self.tokenizer.eval()
        return self

    @abstractmethod
    def tokens_of(self, y: Tensor) -> Tensor:
        """Classes int64 (B,) -> drawn tokens int64 (B, L, D); notes how often the network was asked."""

    @torch.no_grad()
    def sample_of(self, y: Tensor) -> Tensor:
        """Draws (B, C, H, W) of the classes y int64 (B,)."""
        return self.tokenizer.decoded(self.tokenizer.vectors(self.tokens_of(y)).sum(2))

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """n draws (n, C, H, W), of all classes alike."""
        return self.sample_of(torch.randint(len(self.spec.classes), (n,), device=self.device))

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Pictures (B, C, H, W) -> what their tokens keep of them."""
        return self.tokenizer.reconstruct(x)

    def function_evaluations(self) -> float:
        """Evaluations of the network per draw in the last call of `sample`."""
        return float(self.evaluations)


def tokenizer_of(spec: DataSpec, checkpoint: str | None) -> ResidualVQ:
    """The tokenizer of a checkpoint, whose weights stay as they are, or a new one."""
    if checkpoint is None:
        made = instantiate(TOKENIZER, spec.but(target=None, classes=()), where="model.tokenizer")
    else:
        made = Method.load_from_checkpoint(checkpoint)
    if not isinstance(made, ResidualVQ) or made.spec.shape != spec.shape:
        raise UserError(
            f"model.tokenizer={checkpoint} is a {type(made).__name__} of records {made.spec.shape}, "
            f"not a ResidualVQ of {spec.shape}."
        )
    return made.requires_grad_(False)
