"""Tables in files: CSV with the core dependencies alone, and Parquet."""

from __future__ import annotations

import csv
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compendium.errors import UserError
from compendium.extras import require
from datamodules.source import Records, Source
from datamodules.sources.checks import existing, finite, known, not_empty
from datamodules.sources.targets import TASKS, targets
from datamodules.spec import DataSpec, Target

FEW = 20
MISSING = frozenset(["", "na", "n/a", "nan", "null", "none", "?"])


@dataclass
class Cells:
    """A table as it was read.

    Attributes:
        columns: per name, one value per record: a NumPy array of numbers (NaN where a cell is missing) or booleans, or
            of objects (str, or None where a cell is missing).
        position: names the place of row i: `line 7`.
    """

    columns: Mapping[str, np.ndarray]
    position: Callable[[int], str]


class TableFile(Source):
    """A table with one record per row: features are numbers, a target is a class or a number.

    Args:
        path: the file.
        target: name or index (from 0; -1 is the last) of the target column; None: no target.
        features: names of the columns that make up `x`; None: all but the target.
        task: `class`, `real`, `none` (leave the target column out), or `auto`: strings and booleans are classes,
            numbers with a fraction or exponent are real, and whole numbers are classes if there are at most 20
            distinct ones, else real.

    Raises:
        UserError: no such file or column, an empty table, a cell that is no number, missing cells, infinity, a single
            class; each names the column and the first line.
    """

    def __init__(
        self,
        path: str,
        target: str | int | None = None,
        features: Sequence[str] | None = None,
        task: str = "auto",
    ) -> None:
        self.path, self.target = path, target
        self.features = None if features is None else list(features)
        self.task = known(task, TASKS, "data.task", "task")

    @abstractmethod
    def read(self, path: Path) -> Cells:
        """The table that lies in a file."""

    def load(self) -> Records:
        path = existing(self.path)
        if path.is_dir():
            raise UserError(f"data.path={self.path} is a folder.", "Give one file.")
        cells = self.read(path)
        names = list(cells.columns)
        target = self._target(names)
        features = self.features or [name for name in names if name != target]
        for name in features:
            known(name, names, "data.features", f"column in {path}:")
        if target in features:
            raise UserError(f"data.target={target} is among data.features.", "A feature cannot be its own target.")
        if not features:
            raise UserError(
                f"{path} has no column beside the target '{target}'.", "Give data.features=[...] or data.separator."
            )
        not_empty(len(cells.columns[names[0]]), str(path), "There are column names, but no rows.")
        if self.task == "none":
            target = None
        refuse_missing(path, cells, [*features, *([] if target is None else [target])])
        x = torch.from_numpy(np.stack([self._numbers(path, cells, name) for name in features], 1))
        for index, name in enumerate(features):
            finite(x[:, index], f"{path}: column '{name}'", cells.position)
        columns = {"x": x}
        kind: Target | None = None
        classes: tuple[str, ...] = ()
        if target is not None:
            kind, classes, columns["y"] = targets(
                cells.columns[target], f"{path}: column '{target}'", self.task, few=FEW, position=cells.position
            )
        spec = DataSpec(
            name=path.stem,
            kind="vector",
            shape=(len(features),),
            target=kind,
            classes=classes,
            features=tuple(features),
        )
        return Records(spec, columns)

    def _target(self, names: list[str]) -> str | None:
        if self.target is None or self.target in names:
            return None if self.target is None else str(self.target)
        if isinstance(self.target, int) and -len(names) <= self.target < len(names):
            return names[self.target]
        return known(str(self.target), names, "data.target", f"column in {self.path}:")

    def _numbers(self, path: Path, cells: Cells, name: str) -> np.ndarray:
        column = cells.columns[name]
        if column.dtype.kind in "fiub":
            return column.astype(np.float32)
        row = next(row for row, cell in enumerate(column) if not is_number(cell))
        numeric = [other for other in self.features or cells.columns if cells.columns[other].dtype.kind in "fiub"]
        numeric = [other for other in numeric if other != self._target(list(cells.columns))]
        raise UserError(
            f"{path}, {cells.position(row)}: column '{name}' holds '{column[row]}', which is no number.",
            f"Mend the cell, make it the target (data.target={name}), or leave the column out: "
            f"'data.features=[{','.join(numeric)}]'",
        )


class Csv(TableFile):
    """A CSV file whose first line names the columns.

    Empty cells, `NA`, `N/A`, `NaN`, `null`, `None` and `?` count as missing; `true` and `false` as 1 and 0.

    Args:
        path: the file.
        separator: one character between cells.
        encoding: of the text.
        parts: the other arguments of `TableFile`.

    Raises:
        UserError: as `TableFile`; also ragged rows, column names that are missing or repeated, another encoding.
    """

    def __init__(self, path: str, separator: str = ",", encoding: str = "utf-8", **parts: Any) -> None:
        super().__init__(path, **parts)
        self.separator, self.encoding = separator, encoding
        if len(separator) != 1:
            raise UserError(
                f"data.separator='{separator}' is no single character.", r'A tab is "data.separator=\"\t\""'
            )

    def read(self, path: Path) -> Cells:
        try:
            # utf-8-sig drops the mark that spreadsheets put in front.
            encoding = "utf-8-sig" if self.encoding.lower() in ("utf-8", "utf8") else self.encoding
            with path.open(encoding=encoding, newline="") as file:
                reader = csv.reader(file, delimiter=self.separator)
                numbered = [(reader.line_num, row) for row in reader if row]
        except UnicodeDecodeError as error:
            raise UserError(
                f"{path} is not {self.encoding}: {error.reason} at byte {error.start}.",
                "Name its encoding: data.encoding=latin-1, say",
            ) from None
        except LookupError:
            raise UserError(f"data.encoding={self.encoding}: there is no such encoding.") from None
        except csv.Error as error:
            raise UserError(f"{path}, line {reader.line_num}: {error}.") from None
        not_empty(numbered, str(path), "Its first line names the columns, each other line is a record.")
        names = self._names(path, [name.strip() for name in numbered[0][1]])
        lines = [line for line, _ in numbered[1:]]
        rows = [row for _, row in numbered[1:]]
        ragged = [index for index, row in enumerate(rows) if len(row) != len(names)]
        if ragged:
            raise UserError(
                f"{path}, line {lines[ragged[0]]}: {len(rows[ragged[0]])} cells where there are {len(names)} columns"
                f" ({len(ragged)} lines like that).",
                "Quote cells that hold the separator, or name another: data.separator=';'",
            )
        columns = zip(*rows, strict=True) if rows else [()] * len(names)
        parsed = {name: parse(cells) for name, cells in zip(names, columns, strict=True)}
        return Cells(parsed, lambda row: f"line {lines[row]}")

    def _names(self, path: Path, names: list[str]) -> list[str]:
        if all(is_number(name) for name in names):
            raise UserError(
                f"{path}: the first line holds numbers ({', '.join(names[:3])}, ...), not column names.",
                "Add a first line with the names.",
            )
        repeated = [name or "(empty)" for name, count in Counter(names).items() if count > 1 or not name]
        if repeated:
            raise UserError(
                f"{path}: column names that are empty or repeated: {', '.join(repeated)}.",
                "Each column has its own name.",
            )
        other = next((mark for mark in ";\t|," if mark != self.separator and mark in names[0]), None)
        if len(names) == 1 and other:
            mark = r'"\t"' if other == "\t" else other
            raise UserError(
                f"{path} has a single column, '{names[0]}'.", f"Name the separator: 'data.separator={mark}'"
            )
        return names


class Parquet(TableFile):
    """A Parquet file; the arguments are those of `TableFile`. pandas' saved index is no column.

    Raises:
        UserError: as `TableFile`; also a file that is no Parquet, pyarrow missing.
    """

    def read(self, path: Path) -> Cells:
        parquet = require("pyarrow.parquet", extra="tables", needed_by="data=parquet")
        arrow = require("pyarrow", extra="tables", needed_by="data=parquet")
        try:
            table = parquet.read_table(path)
        except (arrow.ArrowException, OSError) as error:
            raise UserError(f"{path} is no Parquet file, or a broken one ({str(error).splitlines()[0]}).") from None
        names = [name for name in table.column_names if not name.startswith("__index_level_")]
        if not names:
            raise UserError(f"{path} has no columns.")
        columns = {name: table.column(name) for name in names}
        numpy = {
            name: (column.cast(column.type.value_type) if arrow.types.is_dictionary(column.type) else column).to_numpy()
            for name, column in columns.items()
        }
        return Cells(numpy, lambda row: f"row {row + 1}")


def refuse_missing(path: Path, cells: Cells, names: Sequence[str]) -> None:
    """Refuse empty cells in the named columns.

    Raises:
        UserError: how many in which columns, and the first place.
    """
    empty = {name: missing(cells.columns[name]) for name in names}
    counts = {name: int(mask.sum()) for name, mask in empty.items() if mask.any()}
    if not counts:
        return
    first, name = min((int(empty[name].argmax()), name) for name in counts)
    listed = ", ".join(f"{count} in '{column}'" for column, count in islice(counts.items(), 5))
    raise UserError(
        f"{path}: {sum(counts.values())} missing cells ({listed}{', ...' if len(counts) > 5 else ''}); "
        f"the first is '{name}' in {cells.position(first)}.",
        "Fill them in, remove the lines, or leave the columns out with data.features=[...].",
    )


def missing(column: np.ndarray) -> np.ndarray:
    """(N,) -> whether a cell is missing (N,) bool."""
    if column.dtype.kind == "f":
        return np.isnan(column)
    if column.dtype.kind == "O":
        return np.fromiter((cell is None or cell != cell for cell in column), bool, len(column))
    return np.zeros(len(column), bool)


def is_number(cell: object) -> bool:
    """Whether a cell reads as a number."""
    try:
        float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True


def parse(cells: Sequence[str]) -> np.ndarray:
    """The cells of one column: whole numbers int64, numbers float64, true and false bool, else str or None."""
    for kind in (np.int64, np.float64):
        try:
            return np.array(cells, dtype=kind)
        except (ValueError, OverflowError):
            continue
    stripped = [cell.strip() for cell in cells]
    present = [None if cell.lower() in MISSING else cell for cell in stripped]
    if {cell.lower() for cell in stripped} <= {"true", "false"}:
        return np.array([cell.lower() == "true" for cell in stripped])
    try:
        return np.array([np.nan if cell is None else float(cell) for cell in present])
    except ValueError:
        return np.array(present, dtype=object)
