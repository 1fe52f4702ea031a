"""Two random views of each record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from compendium.config import instantiate, locate, signature
from compendium.errors import UserError
from compendium.extras import require
from datamodules.batches import Labelled, TwoViews, Unlabelled
from datamodules.datamodule import DataModule
from datamodules.presentations.scaling import Scaling
from datamodules.source import Source
from datamodules.spec import DataSpec


class TwoViewsData(DataModule):
    """Two random views of the same records to train on; the records as they are, with their target if there is one,
    to evaluate on.

    A view is the record after all augmentations, one after the other, for the whole batch at once. Images are
    augmented in [0, 1], clamped back into it, then scaled; vectors are scaled first, so that a jitter is in standard
    deviations.

    Args:
        source: images or vectors, with or without a target.
        augmentations: configs of modules x -> x per kind of data: {image: [...], vector: [...]}. One that needs a
            `size` and is given none gets the height and width of the images.
        scale: see `Scaling`.
        parts: the arguments of `DataModule`.

    Raises:
        UserError: no augmentation for this kind of data, kornia missing, an argument that an augmentation
            does not take.
    """

    batch_type = TwoViews
    draws = ("train",)

    def __init__(
        self,
        source: Source | Mapping[str, Any],
        *,
        augmentations: Mapping[str, Sequence[Mapping[str, Any]]],
        scale: str = "standard",
        **parts: Any,
    ) -> None:
        super().__init__(source, **parts)
        self.augmentations = augmentations
        self.scaling = Scaling(scale)
        self.augment = nn.Sequential()

    @property
    def evaluation_batch_type(self) -> type:
        return Labelled if self.spec.target else Unlabelled

    def describe(self, spec: DataSpec) -> DataSpec:
        return self.scaling.describe(spec)

    def prepare(self) -> None:
        self.scaling.fit(self.columns["x"], self.rows["train"], self.spec)
        nodes = self.augmentations.get(self.spec.kind) or ()
        if not nodes:
            raise UserError(
                f"datamodule.augmentations has none for {self.spec.kind} data: both views would be the same.",
                f"name some: datamodule.augmentations.{self.spec.kind}=[...]",
            )
        where = f"datamodule.augmentations.{self.spec.kind}"
        self.augment = nn.Sequential(*(self._built(node, f"{where}[{index}]") for index, node in enumerate(nodes)))

    def _built(self, node: Mapping[str, Any], where: str) -> nn.Module:
        target = str(node.get("_target_", ""))
        if target.startswith("kornia."):
            require("kornia", extra="vision", needed_by=where)
        sized = target and "size" in signature(locate(target, where))[1] and "size" not in node
        return instantiate(node, where=where, **({"size": self.spec.shape[1:]} if sized else {}))

    def present(self, columns: dict[str, Tensor], split: str) -> TwoViews | Labelled | Unlabelled:
        x = columns["x"]
        if split != "train":
            return Labelled(self.scaling(x), columns["y"]) if "y" in columns else Unlabelled(self.scaling(x))
        if self.spec.kind == "image":
            return TwoViews(*(self.scaling(self.augment(x).clamp(0, 1)) for _ in range(2)))
        x = self.scaling(x)
        return TwoViews(self.augment(x), self.augment(x))
