"""Text in files, and JSON Lines."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compendium.errors import UserError, did_you_mean
from datamodules.source import Records, Source
from datamodules.sources.checks import existing, finite, known, not_empty
from datamodules.sources.image_folder import split_folders
from datamodules.sources.targets import TASKS, targets
from datamodules.spec import DataSpec, Target


class TextFiles(Source):
    """Plain text, one document per file.

    Args:
        path: a file, a folder, or a pattern with `*`. In a folder, `train`, `validation` (or `valid`, `val`) and `test`
            are the splits where there are such folders.
        pattern: which files of a folder are read, sub-folders included.
        encoding: of the text.

    Raises:
        UserError: no such file or folder, no file that fits, no text in them, another encoding.
    """

    def __init__(self, path: str, pattern: str = "*.txt", encoding: str = "utf-8") -> None:
        self.path, self.pattern, self.encoding = path, pattern, encoding

    def load(self) -> Records:
        found = self._files()
        documents = {
            split: [text for file in files if (text := self._text(file)).strip()] for split, files in found.items()
        }
        not_empty(sum(map(len, documents.values())), f"data.path={self.path}", "The files are empty.")
        return Records(DataSpec(name=Path(self.path).stem, kind="text", shape=()), documents=documents)

    def _files(self) -> dict[str, list[Path]]:
        if any(mark in self.path for mark in "*?["):
            files = [Path(name) for name in sorted(glob.glob(str(Path(self.path).expanduser()), recursive=True))]
            files = [file for file in files if file.is_file()]
            not_empty(files, f"data.path={self.path}", "No file fits the pattern; quote it for the shell.")
            return {"train": files}
        path = existing(self.path)
        if path.is_file():
            return {"train": [path]}
        found = {
            split: [file for file in sorted(folder.rglob(self.pattern)) if file.is_file()]
            for split, folder in split_folders(path).items()
        }
        mend = f"No file in it is called {self.pattern}; name others with data.pattern='*.md', say."
        not_empty(sum(map(len, found.values())), f"data.path={self.path}", mend)
        return found

    def _text(self, file: Path) -> str:
        try:
            return file.read_text(encoding=self.encoding)
        except UnicodeDecodeError as error:
            raise UserError(
                f"{file} is not {self.encoding}: {error.reason} at byte {error.start}.",
                "Name its encoding: data.encoding=latin-1, say",
            ) from None
        except LookupError:
            raise UserError(f"data.encoding={self.encoding}: there is no such encoding.") from None


class JsonLines(Source):
    """JSON Lines, one object per line: a document in the field `text`, or a list of numbers in the field `x`.

    Args:
        path: the file.
        text: name of the field that holds a document; unused where `x` is given.
        x: name of the field that holds a list of numbers, equally long in all lines; None: records are documents.
        y: name of the field with the target of `x`; None: no target.
        task: `class`, `real`, `none`, or `auto`: strings and booleans are classes, numbers with a fraction are real,
            and whole numbers are classes if there are at most 20 distinct ones, else real.

    Raises:
        UserError: no such file, a line that is no JSON object, a field that is missing or of another type, lists of
            different lengths, NaN, a single class; each names the line.
    """

    def __init__(
        self, path: str, text: str = "text", x: str | None = None, y: str | None = None, task: str = "auto"
    ) -> None:
        self.path, self.text, self.x, self.y = path, text, x, y
        self.task = known(task, TASKS, "data.task", "task")

    def load(self) -> Records:
        path = existing(self.path)
        numbered = list(self.objects(path))
        not_empty(numbered, str(path), "Each line is a JSON object.")
        lines, objects = zip(*numbered, strict=True)
        if self.x is None:
            documents = self._field(path, lines, objects, self.text, str)
            return Records(DataSpec(name=path.stem, kind="text", shape=()), documents={"train": documents})
        rows = self._field(path, lines, objects, self.x, list)
        for line, row in zip(lines, rows, strict=True):
            if len(row) != len(rows[0]) or not all(isinstance(value, int | float) for value in row):
                raise UserError(
                    f"{path}, line {line}: '{self.x}' is no list of {len(rows[0])} numbers, as in line {lines[0]}."
                )

        def position(row: int) -> str:
            return f"line {lines[row]}"

        columns = {"x": torch.tensor(rows, dtype=torch.float32)}
        finite(columns["x"], f"{path}: '{self.x}'", position)
        target: Target | None = None
        classes: tuple[str, ...] = ()
        if self.y is not None and self.task != "none":
            values = np.array(self._field(path, lines, objects, self.y, (str, int, float)))
            target, classes, columns["y"] = targets(values, f"{path}: '{self.y}'", self.task, few=20, position=position)
        shape = tuple(columns["x"].shape[1:])
        return Records(DataSpec(name=path.stem, kind="vector", shape=shape, target=target, classes=classes), columns)

    @staticmethod
    def objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        """The objects of a file, each with the number of its line."""
        with path.open(encoding="utf-8-sig", errors="strict") as file:
            try:
                for number, line in enumerate(file, 1):
                    if line.strip():
                        value = json.loads(line)
                        if not isinstance(value, dict):
                            raise UserError(f"{path}, line {number}: no JSON object, but {type(value).__name__}.")
                        yield number, value
            except json.JSONDecodeError as error:
                raise UserError(
                    f"{path}, line {number}: no JSON ({error.msg} at column {error.colno}).",
                    "JSON Lines holds one whole object per line.",
                ) from None
            except UnicodeDecodeError as error:
                raise UserError(f"{path} is not utf-8: {error.reason} at byte {error.start}.") from None

    @staticmethod
    def _field(path: Path, lines: Sequence[int], objects: Sequence[dict[str, Any]], name: str, kind: Any) -> list[Any]:
        for line, value in zip(lines, objects, strict=True):
            if name not in value:
                raise UserError(f"{path}, line {line}: there is no field '{name}'.", did_you_mean(name, value))
            if not isinstance(value[name], kind):
                wanted = {str: "a string", list: "a list"}.get(kind, "a string or number")
                raise UserError(f"{path}, line {line}: '{name}' is {type(value[name]).__name__}, not {wanted}.")
        return [value[name] for value in objects]
