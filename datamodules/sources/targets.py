"""What the values of a target column are: classes or real numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.sources.checks import finite, several_classes
from datamodules.spec import Target

TASKS = ("auto", "class", "real", "none")


def targets(
    values: np.ndarray,
    where: str,
    task: str = "auto",
    *,
    few: int | None = None,
    position: Callable[[int], str] = "record {}".format,
) -> tuple[Target, tuple[str, ...], Tensor]:
    """Targets (N,) -> kind of target, class names, and the column: class indices int64 or real numbers float32.

    Classes are numbered in the order of their values.

    Args:
        values: one target per record: numbers, booleans or strings.
        where: what they are, for messages.
        task: `class`, `real`, or `auto`: strings and booleans are classes, floating point is real, and whole numbers
            are classes if there are at most `few` distinct ones, else real.
        few: None: whole numbers are always classes.
        position: names the place of row i.

    Raises:
        UserError: strings as a real target, NaN, infinity, a single class.
    """
    if values.dtype.kind == "O":
        values = values.astype(str)
    if values.dtype.kind not in "fiubUS":
        raise UserError(f"{where} is {values.dtype}.", "Targets are numbers, booleans or strings.")
    if task == "auto":
        whole = values.dtype.kind in "iu"
        many = values.dtype.kind == "f" or (whole and few is not None and len(np.unique(values)) > few)
        task = "real" if many else "class"
    if task == "real":
        if values.dtype.kind in "US":
            raise UserError(
                f"{where} is no number in {position(0)}: '{values[0]}'.", "Strings are classes: data.task=class"
            )
        y = torch.from_numpy(values.astype(np.float32))
        finite(y, where, position)
        return "real", (), y
    if values.dtype.kind == "f":
        finite(torch.from_numpy(values.astype(np.float64)), where, position)
    names, indices = np.unique(values, return_inverse=True)
    classes = tuple(
        name.decode() if isinstance(name, bytes) else f"{name:g}" if values.dtype.kind == "f" else str(name)
        for name in names
    )
    several_classes(classes, where)
    return "class", classes, torch.from_numpy(indices.astype(np.int64))
