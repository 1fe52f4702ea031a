"""Packages that only some choices need, imported by those alone."""

from __future__ import annotations

import importlib
from types import ModuleType

from compendium.errors import MissingExtra


def require(package: str, *, extra: str, needed_by: str) -> ModuleType:
    """Import an optional package.

    Args:
        package: the import name, dots allowed.
        extra: the extra of pyproject.toml that installs it.
        needed_by: what asked for it, as a person would call it: `data=parquet`.

    Raises:
        MissingExtra: it is not installed; one line, with the install command.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != package.split(".")[0]:
            raise  # it is installed, but something that it needs is not: that is its own message
        raise MissingExtra(package.split(".")[0], extra, needed_by) from None
