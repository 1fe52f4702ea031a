"""A trained diffusion model that is adapted to other records by few weights."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from compendium.config import instantiate
from compendium.errors import UserError
from datamodules.spec import DataSpec
from modules.generative.conditional_diffusion import ConditionalDiffusion
from modules.generative.gaussian.checkpoints import frozen
from modules.networks.adapters.base import AdaptedNet, Adapter
from modules.networks.time import Conditioning


class AdaptedDiffusion(AdaptedNet, ConditionalDiffusion):
    """Goes on learning E[x_0 | x_t, y] where a checkpoint left off, with those weights alone that an adapter frees.

    The adapter is an axis (`adapter=`): low-rank changes, turned neurons, parts for new classes, or all weights.

    Args:
        spec: images or vectors in classes.
        adapter: config of a `modules.networks.adapters.base.Adapter`.
        model: checkpoint of a `ConditionalDiffusion` of such records; None: a new network, for its shape.
        anew: whether the classes are others than the checkpoint's: their embeddings are then drawn anew and trained
            beside the adapter's weights, however many they are.
        parts: the arguments of `ConditionalDiffusion`. The network is the checkpoint's, where there is one.

    Raises:
        UserError: a checkpoint of another path, other records, other classes without `anew`, or another target.
    """

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        adapter: Mapping[str, Any],
        model: str | None = None,
        anew: bool = False,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if model is not None:
            self.net = deepcopy(self.origin(model, anew).net).train()
        self.adapter: Adapter = instantiate(adapter, where="model.adapter")
        labels = renewed(self.net, len(self.spec.classes)) if anew else []
        self.adapter.attach(self.net)
        for label in labels:
            label.requires_grad_(True)

    def origin(self, model: str, anew: bool) -> ConditionalDiffusion:
        """The model of a checkpoint, if its network can be taken over."""
        trained = frozen(model, self.path, "model.model")
        if not isinstance(trained, ConditionalDiffusion):
            raise UserError(f"model.model={model} is a {type(trained).__name__}, not a ConditionalDiffusion.")
        for name, own, other in (
            ("shape", self.spec.shape, trained.spec.shape),
            ("target", self.target, trained.target),
            ("data_std", self.data_std, trained.data_std),
        ):
            if own != other:
                raise UserError(f"model.model={model} has the {name} {other}, this model {own}.")
        if not anew and self.spec.classes != trained.spec.classes:
            raise UserError(
                f"model.model={model} knows the classes {', '.join(trained.spec.classes)}, "
                f"these are {', '.join(self.spec.classes)}.",
                "model.anew=true learns new ones",
            )
        return trained


@torch.no_grad()
def renewed(net: nn.Module, classes: int) -> list[nn.Embedding]:
    """Embeddings drawn anew for `classes` classes; the one of "any class" is kept."""
    labels = []
    for part in net.modules():
        if isinstance(part, Conditioning) and part.label is not None:
            label = nn.Embedding(classes + 1, part.label.embedding_dim).to(part.label.weight)
            label.weight[-1] = part.label.weight[-1]
            part.label, part.classes = label, classes
            labels.append(label)
    return labels
