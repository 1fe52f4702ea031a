"""A folder of pictures."""

from __future__ import annotations

from pathlib import Path

import torch

from compendium.errors import UserError, did_you_mean
from compendium.extras import require
from datamodules.source import Records, Source
from datamodules.sources.checks import existing, not_empty, several_classes
from datamodules.sources.decoding import Pictures, channels_checked
from datamodules.spec import DataSpec

SUFFIXES = frozenset([".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"])
SPLIT_FOLDERS = {"train": ("train", "training"), "validation": ("validation", "valid", "val"), "test": ("test",)}


def split_folders(root: Path) -> dict[str, Path]:
    """Folders of the splits that `root` holds; `root` itself is `train` where there is no training folder."""
    found = {split: root / name for split, names in SPLIT_FOLDERS.items() for name in names if (root / name).is_dir()}
    return found if "train" in found else {"train": root}


class ImageFolder(Source):
    """Pictures in one folder per class, or in one folder without classes.

    Layouts: `path/CLASS/*.png`; `path/train/CLASS/*.png` with `path/test/CLASS/*.png` and `path/validation/CLASS/*.png`
    where there are such folders (`valid` and `val` do too); the same without CLASS folders, for models that need no
    target. Names that begin with a dot are skipped, folders inside a class folder are searched. Each picture's shorter
    side is resized to `size`, and the centre square is cut out.

    Args:
        path: the folder.
        size: side of the pictures in pixels; 64, as in the small versions of ImageNet and CelebA.
        channels: 3 (red, green, blue) or 1 (grey).
        memory_gb: pictures that take at most so much memory as float32 (in 2^30 bytes) are decoded once and kept;
            more of them are decoded when they are asked for.

    Raises:
        UserError: no such folder, no picture in it, a single class, a class that is not trained on, pictures beside
            class folders, pictures that do not decode.
    """

    def __init__(self, path: str, size: int = 64, channels: int = 3, memory_gb: float = 4.0) -> None:
        if size < 1:
            raise UserError(f"data.size={size}: pictures have at least one pixel.")
        self.path, self.size, self.channels, self.memory_gb = path, size, channels_checked(channels), memory_gb

    def load(self) -> Records:
        require("PIL", extra="vision", needed_by="data=image_folder")
        root = existing(self.path)
        if not root.is_dir():
            raise UserError(f"data.path={self.path} is a file.", "Give the folder that the pictures lie in.")
        found = {split: listed(folder) for split, folder in split_folders(root).items()}
        files = [file for names in found.values() for _, file in names]
        not_empty(files, str(root), f"Pictures end in {', '.join(sorted(SUFFIXES))}.")
        classes = sorted({label for label, _ in found["train"] if label is not None})
        labelled = bool(classes)
        if labelled:
            several_classes(classes, str(root))
        indices: dict[str | None, int] = {label: index for index, label in enumerate(classes)} or {None: -1}
        for split, names in found.items():
            for label, file in names:
                if label not in indices:
                    raise UserError(
                        f"{file}: the {split} split has the class '{label}', the training split does not.",
                        did_you_mean(str(label), classes) or "Use the same class folders in each split.",
                    )
        pictures = Pictures(lambda rows: [files[row] for row in rows], lambda row: str(files[row]), len(files),
                            self.size, self.channels)  # fmt: skip
        columns = {"x": pictures.in_memory(self.memory_gb)}
        if labelled:
            columns["y"] = torch.tensor([indices[label] for names in found.values() for label, _ in names])
        spec = DataSpec(
            name=root.resolve().name,
            kind="image",
            shape=pictures.shape,
            target="class" if labelled else None,
            classes=tuple(classes),
            levels=256,
            bounds=(0.0, 1.0),
        )
        rows = torch.arange(len(files)).split([len(names) for names in found.values()])
        return Records(spec, columns, splits=dict(zip(found, rows, strict=True)) if len(found) > 1 else {})


def listed(folder: Path) -> list[tuple[str | None, Path]]:
    """(class or None, file) of the pictures of one split, in the order of their names."""
    flat = [file for file in sorted(folder.iterdir()) if is_picture(file)]
    classes = [entry for entry in sorted(folder.iterdir()) if entry.is_dir() and not entry.name.startswith(".")]
    nested: list[tuple[str | None, Path]] = [
        (entry.name, file) for entry in classes for file in sorted(entry.rglob("*")) if is_picture(file)
    ]
    if flat and nested:
        raise UserError(
            f"{folder} holds {len(flat)} pictures beside folders with pictures ({nested[0][0]}, ...).",
            f"Move {flat[0].name} and the like into class folders, or give a folder with pictures alone.",
        )
    return nested or [(None, file) for file in flat]


def is_picture(file: Path) -> bool:
    """Whether a file is a picture, by its name."""
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
