"""What is fit on top of a trained predictor: the parent of calibrators and conformal methods."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.config import locate
from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.method import Method
from modules.supervised.classifier import SoftmaxClassifier
from modules.supervised.regressor import GaussianRegressor
from modules.uncertainty.keeping import KeepingMethod


class Trained(KeepingMethod):
    """Looks at what a trained predictor says of records that it was not trained on, and solves.

    The predictor becomes a part of this method: its weights lie in this method's checkpoint, which opens without the
    other one. It is asked in evaluation mode, and none of its weights is trained.

    A subclass overrides `solve`, which finds what was noted of all records in `noted()`, in the order in which they
    came; and where that is not the log probabilities, `outputs` and `note`.

    Args:
        spec: labelled data, held out of the predictor's training: `datamodule=held_out`.
        model: the predictor: the path of a checkpoint, or what a checkpoint of this class says of it; None: an
            untrained one with the network `net`.
        parts: `net`, see `Method`.

    Raises:
        UserError: a checkpoint of other records or other classes, or of a method without the capability.
    """

    batch_type = Labelled
    targets = ("class", "real")

    def __init__(
        self, spec: DataSpec | Mapping[str, Any], model: str | Mapping[str, Any] | None = None, **parts: Any
    ) -> None:
        super().__init__(spec, **parts)
        self.predictor, self.hparams["model"] = self.opened(model)
        self.predictor.requires_grad_(False).train()
        self.reserve(self.width())

    # What a subclass overrides

    capability: type | None = None
    """What the predictor must be able to do, of `modules.capabilities`."""

    @abstractmethod
    def solve(self) -> None:
        """Fit what stands on top of the predictor to what was `noted`."""

    def outputs(self) -> int:
        """How many numbers are noted of a record: by default the log probabilities of the classes."""
        return len(self.spec.classes)

    def width(self) -> int:
        """How many numbers are kept of a record: what is noted, and its target."""
        return self.outputs() + 1

    def note(self, x: Tensor) -> Tensor:
        """Records x (B, ...) -> what is noted of them (B, outputs)."""
        return self.predict(x)

    # What it uses

    @property
    def asked(self) -> Any:
        """The predictor in evaluation mode. Set here and not at once: Lightning warns of a fit that begins with it."""
        return self.predictor.eval()

    def predict(self, x: Tensor) -> Tensor:
        """Records x (B, ...) -> the predictor's log probabilities (B, classes), float64."""
        return self.asked.predict_log_proba(x).double()

    def noted(self) -> tuple[Tensor, Tensor]:
        """What was noted of all records (n, outputs), float64, and their targets (n,), float64 or int64."""
        rows, y = self.rows_kept().split([self.outputs(), 1], 1)
        y = y.squeeze(1)
        return rows, y.long() if self.spec.target == "class" else y

    def accumulate(self, batch: Labelled) -> None:
        self.keep(torch.cat([self.note(batch.x).double(), batch.y.double()[:, None]], 1))

    def opened(self, model: str | Mapping[str, Any] | None) -> tuple[Any, dict[str, Any] | None]:
        """The predictor, and in plain values what builds it again."""
        if model is None:
            kind = SoftmaxClassifier if self.spec.target == "class" else GaussianRegressor
            return kind(self.spec, net=self._net), None
        if isinstance(model, Mapping):
            return locate(model["method"], "model.model")(**model["hyper_parameters"]), dict(model)
        predictor = Method.load_from_checkpoint(model)
        if self.capability is not None and not isinstance(predictor, self.capability):
            raise UserError(f"model.model={model} is a {type(predictor).__name__}, no {self.capability.__name__}.")
        for name in ("shape", "target", "classes"):
            own, other = getattr(self.spec, name), getattr(predictor.spec, name)
            if own != other:
                raise UserError(f"model.model={model} has the {name} {other}, these records {own}.")
        name = f"{type(predictor).__module__}.{type(predictor).__qualname__}"
        return predictor, {"method": name, "hyper_parameters": dict(predictor.hparams)}
