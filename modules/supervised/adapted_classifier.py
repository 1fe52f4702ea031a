"""A trained classifier that is adapted to other records by few weights."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from compendium.config import instantiate
from compendium.errors import UserError
from datamodules.spec import DataSpec
from modules.networks.adapters.base import AdaptedNet, Adapter
from modules.supervised.classifier import SoftmaxClassifier


class AdaptedClassifier(AdaptedNet, SoftmaxClassifier):
    """Goes on learning where a checkpoint left off, with those weights alone that an adapter frees (`adapter=`).

    Args:
        spec: labelled data.
        adapter: config of a `modules.networks.adapters.base.Adapter`.
        model: checkpoint of a `SoftmaxClassifier` of such records; None: a new network.
        parts: the arguments of `SoftmaxClassifier`. The network is the checkpoint's, where there is one.

    Raises:
        UserError: a checkpoint of another method, of other records or other classes.
    """

    papers = ("allora2024adaptive",)

    def __init__(
        self, spec: DataSpec | Mapping[str, Any], adapter: Mapping[str, Any], model: str | None = None, **parts: Any
    ) -> None:
        super().__init__(spec, **parts)
        if model is not None:
            self.net = deepcopy(self.origin(model).net).train()
        self.adapter: Adapter = instantiate(adapter, where="model.adapter")
        self.adapter.attach(self.net)

    def origin(self, model: str) -> SoftmaxClassifier:
        """The model of a checkpoint, if its network can be taken over."""
        trained = SoftmaxClassifier.load_from_checkpoint(model)
        for name in ("shape", "classes"):
            own, other = getattr(self.spec, name), getattr(trained.spec, name)
            if own != other:
                raise UserError(f"model.model={model} has the {name} {other}, these records {own}.")
        return trained
