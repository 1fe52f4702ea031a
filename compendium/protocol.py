"""Under which protocol a run was evaluated: what two runs must have in common before their figures are compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from compendium.config import ROOT

ROWS = 1000
"""Records of a split whose content is looked at: enough to notice other data, cheap on any."""
METRIC_LIBRARIES = ("torchmetrics", "scikit-learn")


def protocol(config: Mapping[str, Any], data: Any) -> dict[str, str]:
    """The evaluation protocol of a run.

    Args:
        config: of the run.
        data: its DataModule, set up.

    Returns:
        `split`: what is evaluated on, by content; `selection`: which weights; `evaluations`: the settings of the
        evaluations; `metrics`: the version of their code and libraries.
    """
    callbacks = config["callbacks"]
    settings = [
        callbacks.get("evaluation"),
        config["trainer"]["limit_test_batches"],
        config["trainer"]["limit_val_batches"],
    ]
    return {
        "split": split(data),
        "selection": selection(callbacks.get("checkpoint") or {}),
        "evaluations": digest([json.dumps(settings, sort_keys=True, default=str).encode()]),
        "metrics": metrics(),
    }


def split(data: Any) -> str:
    """A digest of what is validated and tested on: which rows, and what the first of them hold."""
    parts: list[bytes] = []
    for name in ("validation", "test"):
        rows = data.rows[name]
        parts += [name.encode(), rows.numpy().tobytes()]
        for column in (data.source_columns or data.columns).values():
            if hasattr(column, "numpy"):
                parts.append(column[rows[:ROWS]].cpu().contiguous().numpy().tobytes())
    return digest(parts)


def selection(checkpoint: Mapping[str, Any]) -> str:
    """Which weights are evaluated, in words."""
    monitored = checkpoint.get("monitor")
    return f"best {monitored} ({checkpoint.get('mode')})" if monitored else "last"


@cache
def metrics() -> str:
    """A digest of the code that computes figures, and of the libraries that it stands on."""
    folder = ROOT / "callbacks"
    files = [*(folder / "evaluation").rglob("*.py"), *(folder / "metrics").rglob("*.py"), folder / "features.py"]
    libraries = [f"{name} {version(name)}".encode() for name in METRIC_LIBRARIES]
    return digest([*libraries, *contents(files)])


@cache
def code() -> str:
    """A digest of everything of this project that a run executes."""
    files = [
        path for name in ("callbacks", "compendium", "datamodules", "modules") for path in (ROOT / name).rglob("*.py")
    ]
    return digest(contents(path for path in files if ROOT / "compendium" / "claims" not in path.parents))


def contents(files: Iterable[Path]) -> list[bytes]:
    """Names and contents of source files, in a fixed order."""
    ordered = sorted(files)
    return [part for path in ordered for part in (path.relative_to(ROOT).as_posix().encode(), path.read_bytes())]


def digest(parts: Iterable[bytes]) -> str:
    """Twelve hex digits."""
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "little"))
        found.update(part)
    return found.hexdigest()[:12]
