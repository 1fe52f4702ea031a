"""The papers that a run stands on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from compendium.config import ROOT, locate
from compendium.errors import UserError
from compendium.run import Run, replacing

BIBLIOGRAPHY = ROOT / "docs" / "papers.bib"


def entries(path: Path = BIBLIOGRAPHY) -> dict[str, str]:
    """Key -> entry, as it stands in a BibTeX file whose entries begin and end at the margin."""
    found = re.findall(r"^@\w+\{([^,\s]+),.*?^\}", path.read_text(encoding="utf-8"), re.M | re.S)
    texts = re.findall(r"^@\w+\{[^,\s]+,.*?^\}", path.read_text(encoding="utf-8"), re.M | re.S)
    return dict(zip(found, texts, strict=True))


def keys(config: Any) -> Iterator[str]:
    """The papers that the classes and functions of a config name in their attribute `papers`."""
    if isinstance(config, Mapping):
        if "_target_" in config:
            yield from getattr(locate(str(config["_target_"])), "papers", ())
        for value in config.values():
            yield from keys(value)
    elif isinstance(config, list):
        for value in config:
            yield from keys(value)


def write(run: Run) -> None:
    """Write `citations.bib` into the run folder.

    Raises:
        UserError: a class names a paper that docs/papers.bib does not have.
    """
    known = entries()
    wanted = sorted(set(keys(run.config)))
    unknown = [key for key in wanted if key not in known]
    if unknown:
        raise UserError(
            f"docs/papers.bib has no entry for {', '.join(unknown)}.", "Add it, or mend `papers` of the class."
        )
    with replacing(run.folder / "citations.bib") as temporary:
        temporary.write_text("\n\n".join(known[key] for key in wanted) + ("\n" if wanted else ""))
