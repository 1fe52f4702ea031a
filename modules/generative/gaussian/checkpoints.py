"""Models of a Gaussian path that were trained before."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from modules.generative.gaussian.paths import Path
from modules.method import Method


def frozen(checkpoint: str, path: Path, where: str) -> Any:
    """The model of a checkpoint, whose weights stay as they are.

    Args:
        checkpoint: of any method with a path.
        path: that it must have been trained on.
        where: the argument that named it.

    Raises:
        UserError: another path.
    """
    model = Method.load_from_checkpoint(checkpoint).requires_grad_(False)
    check_path(model.path, path, f"{where}={checkpoint}")
    return model


@cache
def opened(checkpoint: str) -> Any:
    """The model of a checkpoint, whose weights stay as they are, opened once."""
    return Method.load_from_checkpoint(checkpoint).requires_grad_(False)


def opened_for(checkpoint: str, x: Tensor) -> Any:
    """The model of a checkpoint, opened once, where and as precise as records."""
    return opened(checkpoint).to(device=x.device, dtype=x.dtype)


def check_path(trained: Path, path: Path, where: str) -> None:
    """Refuse a model of another path.

    Raises:
        UserError: the two differ in kind or in a number.
    """
    one, other = vars(trained), vars(path)
    if type(trained) is not type(path) or not all(equal(one[name], other[name]) for name in one):
        raise UserError(f"{where} was trained on another path.", "choose path= as it was trained")


def equal(one: Any, other: Any) -> bool:
    """Whether two numbers, or two tables, are the same."""
    return torch.equal(one, other) if isinstance(one, Tensor) else one == other
