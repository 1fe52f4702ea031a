"""What every source checks of its input, with messages that say what is wrong, where, and how to mend it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from compendium.errors import UserError, did_you_mean


def existing(path: str | Path, where: str = "data.path") -> Path:
    """The path with `~` expanded.

    Raises:
        UserError: there is nothing at it; with the nearest names in the deepest folder that there is.
    """
    found = Path(path).expanduser()
    if found.exists():
        return found
    missing = found
    while not missing.parent.exists():
        missing = missing.parent
    siblings = [entry.name for entry in missing.parent.iterdir()] if missing.parent.is_dir() else []
    raise UserError(
        f"{where}={path}: there is no '{missing.name}' in {missing.parent.resolve()}.",
        did_you_mean(missing.name, siblings) or "give the path of a file or folder that exists",
    )


def known(name: str, names: Iterable[str], where: str, what: str) -> str:
    """The name itself.

    Raises:
        UserError: it is not among the names.
    """
    names = list(names)
    if name not in names:
        raise UserError(f"{where}={name}: there is no {what} '{name}'.", did_you_mean(name, names))
    return name


def not_empty(records: Collection[object] | int, where: str, mend: str = "") -> None:
    """Refuse an empty set.

    Raises:
        UserError: there are no records.
    """
    if not (records if isinstance(records, int) else len(records)):
        raise UserError(f"{where} holds no records.", mend)


def split_sizes(train: int, validation: int, test: int, of: str = "record") -> dict[str, int]:
    """How many records of each split are to be drawn, by its name.

    Raises:
        UserError: a size below 1.
    """
    sizes = {"train": train, "validation": validation, "test": test}
    for split, size in sizes.items():
        if size < 1:
            raise UserError(f"data.{split}={size}: draw at least one {of}.")
    return sizes


def consecutive(sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """Rows of splits whose records lie one after the other."""
    rows = torch.arange(sum(sizes.values())).split(list(sizes.values()))
    return dict(zip(sizes, rows, strict=True))


def finite(values: Tensor, where: str, position: Callable[[int], str] = "record {}".format) -> None:
    """Refuse NaN and infinity.

    Args:
        values: (N, ...), any float type.
        where: what they are, for the message.
        position: names the place of row i, as a person would look for it.

    Raises:
        UserError: how many there are, and where the first one is.
    """
    wrong = ~torch.isfinite(values)
    if not wrong.any():
        return
    nan = int(values.isnan().sum())
    rows = wrong.reshape(len(values), -1).any(1).nonzero()[:, 0]
    raise UserError(
        f"{where} holds {nan} NaN and {int(wrong.sum()) - nan} infinite values, in {len(rows)} of {len(values)} "
        f"records; the first is in {position(int(rows[0]))}.",
        "Remove these records, or fill them in.",
    )


def several_classes(classes: Sequence[str], where: str) -> None:
    """Refuse a target with a single class.

    Raises:
        UserError: nothing can be told apart.
    """
    if len(classes) < 2:
        raise UserError(
            f"{where} holds one class only: {', '.join(classes) or 'none'}.",
            "A classifier needs two; without a target, any model that learns from `x` alone can use the records.",
        )
