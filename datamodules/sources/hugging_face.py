"""Any data set of the Hugging Face hub, or a local folder in its layout."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compendium.errors import UserError
from compendium.extras import require
from compendium.hub import is_local, reachable_or_offline
from datamodules.source import Records, Source
from datamodules.sources.checks import existing, known, not_empty, several_classes
from datamodules.sources.decoding import Pictures, channels_checked
from datamodules.sources.targets import targets
from datamodules.spec import DataSpec, Target

SPLITS = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
LABELS = ("label", "labels", "target", "y", "class")
MEND = "Or download it where there is a network, and give the folder: data.name=FOLDER"


class HuggingFace(Source):
    """Pictures with or without a label, or text, by hub name or local folder; held in memory where they fit.

    Columns that are not named are found by their type: the first `Image` column is `x`, the only `ClassLabel` column
    (else one called label, labels, target, y or class) is `y`; without pictures, the column `text`, or the only
    string column, holds the documents.

    Args:
        name: `owner/name` on the hub, or a folder.
        config: name of the configuration, where the data set has several.
        revision: branch, tag or commit on the hub; name a commit to be sure of the same data for ever.
        splits: {train, validation, test} -> the data set's own split names; what is not named is taken by name
            (`valid`, `val` and `dev` validate), and what is null or absent is cut from the training split.
        image: column of the pictures.
        label: column of the target; `none` leaves it out.
        text: column of the documents.
        join: the rows of a split are lines of one document.
        size: side in pixels to which pictures are resized and cut; None: as they are, all the same.
        channels: 1 (grey) or 3 (red, green, blue); None: as the first picture.
        memory_gb: pictures that take at most so much memory as float32 (in 2^30 bytes) are decoded once and kept.
        cache_dir: where the library keeps what it downloads and converts; None: its default.

    Raises:
        UserError: not on this machine and no network, no such data set, configuration, split or column, pictures that
            differ in size or do not decode, labels that are missing, a single class.
    """

    def __init__(
        self,
        name: str,
        config: str | None = None,
        revision: str | None = None,
        splits: Mapping[str, str | None] | None = None,
        image: str | None = None,
        label: str | None = None,
        text: str | None = None,
        join: bool = False,
        size: int | None = None,
        channels: int | None = None,
        memory_gb: float = 4.0,
        cache_dir: str | None = None,
    ) -> None:
        self.name, self.config, self.revision = name, config, revision
        self.splits = dict(splits or {})
        for split in self.splits:
            known(split, SPLITS, "data.splits", "split")
        self.image, self.label, self.text, self.join = image, label, text, join
        self.size, self.memory_gb, self.cache_dir = size, memory_gb, cache_dir
        self.channels = None if channels is None else channels_checked(channels)

    def load(self) -> Records:
        library = require("datasets", extra="hub", needed_by=f"data.name={self.name}")
        parts = self.parts(self.loaded(library))
        for split, part in parts.items():
            not_empty(len(part), f"{self.name}, split '{split}'")
        features = parts["train"].features
        if self.text is None:
            image = self._column("image", self.image, features, [
                name for name, feature in features.items() if isinstance(feature, library.Image)
            ])  # fmt: skip
            if image is not None:
                return self._images(library, parts, image)
        strings = [
            name for name, feature in features.items() if getattr(feature, "dtype", "") in ("string", "large_string")
        ]
        text = self._column("text", self.text, features, ["text"] if "text" in strings else strings)
        if text is None:
            raise UserError(
                f"{self.name} has neither pictures nor text: {', '.join(features)}.",
                "Name a column: data.image=NAME or data.text=NAME. For tables, take data=parquet.",
            )
        documents = {split: [row for row in part[text] if row] for split, part in parts.items()}
        if self.join:
            documents = {split: ["".join(rows)] for split, rows in documents.items()}
        return Records(DataSpec(name=self._title(), kind="text", shape=()), documents=documents)

    def _title(self) -> str:
        return self.name.rstrip("/").rsplit("/", 1)[-1]

    def loaded(self, library: Any) -> Mapping[str, Any]:
        """The data set, by its own split names; `library` is `datasets`."""
        name, revision = self.name, self.revision
        if is_local(name):
            name, revision = str(existing(name, "data.name")), None
        asking = contextlib.nullcontext() if is_local(name) else reachable_or_offline()
        try:
            with asking:
                return library.load_dataset(name, self.config, revision=revision, cache_dir=self.cache_dir)
        except ConnectionError:
            raise UserError(
                f"data.name={name} is not on this machine, and the Hugging Face hub cannot be reached.", MEND
            ) from None
        except (OSError, ValueError, RuntimeError, library.exceptions.DatasetsError) as error:
            first = next(iter(str(error).splitlines()), type(error).__name__)
            config = "" if self.config is None else f" data.config={self.config}"
            raise UserError(f"data.name={name}{config} does not load: {first}") from None

    def parts(self, loaded: Mapping[str, Any]) -> dict[str, Any]:
        """The data set by our split names; those that there are."""
        parts = {}
        for split, names in SPLITS.items():
            name = self.splits.get(split, next((name for name in names if name in loaded), None))
            if name is not None:
                parts[split] = loaded[known(name, loaded, f"data.splits.{split}", "split")]
        if "train" not in parts and len(loaded) == 1:
            parts = {"train": next(iter(loaded.values()))}
        if "train" not in parts:
            raise UserError(
                f"{self.name} has no split 'train', only {', '.join(loaded)}.", "Name one: data.splits.train=NAME"
            )
        return parts

    def _column(self, role: str, asked: str | None, features: Mapping[str, Any], found: list[str]) -> str | None:
        if asked is not None:
            return known(asked, features, f"data.{role}", f"column in {self.name}:")
        if len(found) > 1 and role != "image":
            raise UserError(
                f"{self.name} has several columns for data.{role}: {', '.join(found)}.", f"Choose one: data.{role}=NAME"
            )
        return found[0] if found else None

    def _label(self, library: Any, features: Mapping[str, Any]) -> str | None:
        if self.label == "none":
            return None
        found = [name for name, feature in features.items() if isinstance(feature, library.ClassLabel)]
        named = [name for name in LABELS if name in features]
        if named and (not found or named[0] in found):
            found = named[:1]
        return self._column("label", self.label, features, found)

    def _images(self, library: Any, parts: Mapping[str, Any], image: str) -> Records:
        label = self._label(library, parts["train"].features)
        encoded = library.concatenate_datasets([
            part.select_columns([image]).cast_column(image, library.Image(decode=False)) for part in parts.values()
        ])  # fmt: skip

        def fetch(rows: list[int]) -> list[Path | bytes]:
            return [cell["bytes"] or Path(cell["path"]) for cell in encoded[rows][image]]

        sizes = [len(part) for part in parts.values()]
        rows = dict(zip(parts, torch.arange(sum(sizes)).split(sizes), strict=True))

        def name(row: int) -> str:
            split = next(split for split, own in rows.items() if own[0] <= row <= own[-1])
            return f"{self.name}, split '{split}', picture {row - int(rows[split][0])}"

        pictures = Pictures(fetch, name, len(encoded), self.size, self.channels)
        columns: dict[str, Any] = {"x": pictures.in_memory(self.memory_gb)}
        target: Target | None = None
        classes: tuple[str, ...] = ()
        if label is not None:
            values = np.concatenate([np.asarray(part[:][label]) for part in parts.values()])
            target, classes, columns["y"] = self._targets(library, parts["train"].features[label], values, label)
        spec = DataSpec(
            name=self._title(),
            kind="image",
            shape=pictures.shape,
            target=target,
            classes=classes,
            levels=256,
            bounds=(0.0, 1.0),
        )
        return Records(spec, columns, splits=rows if len(rows) > 1 else {})

    def _targets(self, library: Any, feature: Any, values: np.ndarray, label: str) -> tuple[Any, tuple[str, ...], Any]:
        where = f"{self.name}, column '{label}'"
        if not isinstance(feature, library.ClassLabel):
            return targets(values, where)
        several_classes(feature.names, where)
        y = torch.from_numpy(values.astype(np.int64))
        unknown = int((y < 0).sum())
        if unknown:
            raise UserError(
                f"{where}: {unknown} of {len(y)} labels are missing (-1).",
                "A test split without labels is left out with data.splits.test=null; data.label=none takes no target.",
            )
        return "class", tuple(feature.names), y
