"""Methods that read a linear head off a network of tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from compendium.errors import UserError
from datamodules.spec import DataSpec
from modules.method import Method
from modules.preference.policy import begin_from


class Headed(Method, ABC):
    """A linear head without bias, `head`, on the features of one token of each text. A subclass makes it.

    It begins at N(0, 1 / (features + 1)) (Stiennon et al. 2020, from memory).

    Args:
        spec: text.
        model: checkpoint of a `Policy` whose network it begins with; None: the network as it begins.
        parts: `net`, `optimizer`, `schedule`, see `Method`. The network has `embed(ids (B, T)) -> (B, T, features)`.

    Raises:
        UserError: a network without features, or a checkpoint of no policy or another network.
    """

    kinds = ("text",)

    head: nn.Linear

    def __init__(self, spec: DataSpec | Mapping[str, Any], model: str | None = None, **parts: Any) -> None:
        super().__init__(spec, **parts)
        self.net = self.build(self.spec.shape, (self.spec.vocabulary,))
        if not hasattr(self.net, "embed") or not hasattr(self.net, "features"):
            raise UserError(
                f"{type(self.net).__name__} has no features of tokens that a {type(self).__name__} could read.",
                "net=transformer",
            )
        if model is not None:
            begin_from(model, self.net)
            self.hparams["model"] = None  # its weights lie in this checkpoint, which opens without the other one

    def begin_head(self, outputs: int) -> nn.Linear:
        """A head of so many outputs, as it begins."""
        features = int(self.net.features)  # type: ignore[arg-type]
        head = nn.Linear(features, outputs, bias=False)
        nn.init.normal_(head.weight, std=(features + 1) ** -0.5)
        return head

    @abstractmethod
    def loss(self, batch: Any) -> Tensor | dict[str, Tensor]:
        """See `Method`."""

    def read(self, features: Tensor, place: Tensor) -> Tensor:
        """Features (n, T, D) of texts and a token of each, int64 (n,) -> (n, outputs), float32 or more."""
        found = self.head(features[torch.arange(len(place), device=place.device), place])
        return found.to(torch.promote_types(found.dtype, torch.float32))
