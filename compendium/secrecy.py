"""Secrets stay in the environment: no config, log or upload holds one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from compendium.config import scalars

SECRET_KEY = re.compile(r"(?i)(^|[_.-])(token|secret|password|passwd|api_?key|credentials?)$")
SECRET_VALUE = re.compile(r"^(hf_\w{20,}|sk-[\w-]{16,}|gh[pousr]_\w{20,}|AKIA\w{12,})$|//[^/\s:@]+:[^/\s@]+@")


def secrets(node: Any, path: str = "") -> list[str]:
    """Paths of config values that look like secrets, by their key or by their form."""
    return [
        place
        for place, value in scalars(node, path)
        if isinstance(value, str) and value and (SECRET_KEY.search(place) or SECRET_VALUE.search(value))
    ]


def without_secrets(node: Any, path: str = "") -> Any:
    """The same config with `***` in place of whatever looks like a secret."""
    if isinstance(node, Mapping):
        return {key: without_secrets(value, f"{path}.{key}" if path else str(key)) for key, value in node.items()}
    if isinstance(node, list):
        return [without_secrets(value, path) for value in node]
    return "***" if secrets(node, path) else node
