"""Preferences of which a part is left out: those whose answers are alike to a policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError, did_you_mean
from compendium.seeding import generator
from datamodules.presentations.answers import answers_of
from datamodules.presentations.preferences import PreferenceData
from datamodules.source import Source

MEASURES = ("ches", "last_product", "edit", "random")
AT_ONCE = 1024
"""Pairs of which the policy is asked at once."""


class SimilarityData(PreferenceData):
    """Pairs of answers, of which those are kept for training that are most alike, or least.

    Measures are `ches`, the score of `modules.preference.similarity.ches`, `last_product`, of the features of both
    answers' ends, `edit`, Levenshtein's distance over the length of the longer answer, and `random`.

    Razin et al. 2024, "Unintentional Unalignment: Likelihood Displacement in Direct Preference Optimization": pairs of
    a high CHES score displace likelihood; those of a low one are kept.

    Args:
        source: preferences.
        model: checkpoint of the policy whose features say what is alike; None: only for `edit` and `random`.
        by: a measure.
        keep: share of the training pairs, in (0, 1].
        everywhere: whether validation and test keep the same share of theirs.
        alike: whether the most similar pairs are kept; False: the least similar ones.
        parts: the arguments of `PreferenceData`.

    Raises:
        UserError: an unknown measure, a share out of range, no checkpoint, or one whose network has no features.
    """

    papers = ("razin2024unintentional",)

    def __init__(
        self,
        source: Source | Mapping[str, Any],
        *,
        model: str | None = None,
        by: str = "ches",
        keep: float = 0.5,
        alike: bool = False,
        everywhere: bool = False,
        **parts: Any,
    ) -> None:
        super().__init__(source, **parts)
        if by not in MEASURES:
            raise UserError(f"datamodule.by={by} is unknown.", did_you_mean(by, list(MEASURES)))
        if not 0 < keep <= 1:
            raise UserError(f"datamodule.keep={keep}: it lies in (0, 1].")
        if model is None and by in ("ches", "last_product"):
            raise UserError(f"datamodule.by={by} asks a policy.", "datamodule.model=CHECKPOINT")
        self.model, self.by, self.keep, self.alike = model, by, keep, alike
        self.everywhere = everywhere

    def setup(self, stage: str | None = None) -> None:
        if self._records is not None:
            return
        super().setup(stage)
        splits = list(self.rows) if self.everywhere else ["train"]
        self.narrow({split: self.kept(self.rows[split]) for split in splits})

    def kept(self, rows: Tensor) -> Tensor:
        """The rows that stay, in the order in which they stood: all that differs is which pairs there are."""
        if not len(rows):
            return rows
        order = self.similarity(rows).argsort(stable=True, descending=self.alike)
        return rows[order[: max(1, round(self.keep * len(rows)))].sort().values]

    def similarity(self, rows: Tensor) -> Tensor:
        """How alike the answers of some rows are (n,), by the measure."""
        from modules.preference.similarity import ches, edit_similarity, last_product

        if self.by == "random":
            return torch.rand(len(rows), generator=generator(self.seed, "similarity"))
        found = []
        for part in rows.split(AT_ONCE):
            columns = self.take(self._columns, part, "validation")
            ids, answers = columns["ids"], answers_of(columns)
            if self.by == "edit":
                found.append(edit_similarity(ids, answers))
                continue
            features = self.features(ids)
            found.append((ches if self.by == "ches" else last_product)(features, answers))
        return torch.cat(found)

    @torch.no_grad()
    def features(self, ids: Tensor) -> Tensor:
        """ids int64 (B, 2, T) -> features of the policy (B, 2, T, D)."""
        from modules.method import Method

        net = getattr(Method.load_from_checkpoint(str(self.model)), "net", None)
        if net is None or not hasattr(net, "embed"):
            raise UserError(f"datamodule.model={self.model} has no features of tokens.", "net=transformer")
        return net.embed(ids.flatten(0, 1)).unflatten(0, ids.shape[:2])
