"""A folder of pictures with captions."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from compendium.errors import UserError, did_you_mean
from compendium.extras import require
from datamodules.source import Captions, Records, Source
from datamodules.sources.checks import existing, not_empty
from datamodules.sources.decoding import Pictures, channels_checked
from datamodules.sources.image_folder import split_folders
from datamodules.spec import DataSpec


class CaptionedFolder(Source):
    """Pictures in a folder, and their captions in a JSON Lines file beside them, one object per line.

    The layout of Hugging Face's `imagefolder` with captions: `path/metadata.jsonl` with lines such as
    {"file_name": "0001.png", "text": "a red square"}, file names relative to its folder; or `path/train`, `path/test`
    and `path/validation` with such a file each. Pictures that are not named in the file are left out. Each picture's
    shorter side is resized to `size`, and the centre square is cut out.

    Args:
        path: the folder.
        size: side of the pictures in pixels; 64, as of `data=image_folder`.
        channels: 3 (red, green, blue) or 1 (grey).
        metadata: name of the file with the captions.
        text: name of the field that holds a caption.
        memory_gb: see `data=image_folder`.

    Raises:
        UserError: no such folder, file or picture, a line that is no object with both fields, no record.
    """

    def __init__(
        self,
        path: str,
        size: int = 64,
        channels: int = 3,
        metadata: str = "metadata.jsonl",
        text: str = "text",
        memory_gb: float = 4.0,
    ) -> None:
        if size < 1:
            raise UserError(f"data.size={size}: pictures have at least one pixel.")
        self.path, self.size, self.channels, self.memory_gb = path, size, channels_checked(channels), memory_gb
        self.metadata, self.text = metadata, text

    def load(self) -> Records:
        require("PIL", extra="vision", needed_by="data=captioned_folder")
        root = existing(self.path)
        if not root.is_dir():
            raise UserError(f"data.path={self.path} is a file.", "Give the folder that the pictures lie in.")
        found = {split: self.told(folder) for split, folder in split_folders(root).items()}
        records = [record for told in found.values() for record in told]
        not_empty(records, str(root))
        files = [file for file, _ in records]
        pictures = Pictures(
            lambda rows: [files[row] for row in rows],
            lambda row: str(files[row]),
            len(files),
            self.size,
            self.channels,
        )
        spec = DataSpec(root.resolve().name, "image", pictures.shape, levels=256, bounds=(0.0, 1.0))
        rows = torch.arange(len(files)).split([len(told) for told in found.values()])
        return Records(
            spec,
            {"x": pictures.in_memory(self.memory_gb)},
            splits=dict(zip(found, rows, strict=True)) if len(found) > 1 else {},
            captions=Captions([text for _, text in records]),
        )

    def told(self, folder: Path) -> list[tuple[Path, str]]:
        """(picture, caption) of each line of a folder's file."""
        file = existing(folder / self.metadata, "data.metadata")
        records = []
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"{file}, line {number} is no JSON: {error.msg}.") from None
            for name in ("file_name", self.text):
                if not isinstance(record, dict) or not isinstance(record.get(name), str):
                    fields = list(record) if isinstance(record, dict) else []
                    mend = did_you_mean(name, fields) or "name the field of the captions: data.text=caption, say"
                    raise UserError(f"{file}, line {number} has no text in the field '{name}'.", mend)
            picture = folder / record["file_name"]
            if not picture.is_file():
                raise UserError(f"{file}, line {number}: there is no picture {picture}.")
            records.append((picture, record[self.text]))
        return records
