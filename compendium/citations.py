"""The papers that a run stands on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from compendium.config import locate
from compendium.errors import UserError
from compendium.papers import bibliography
from compendium.run import Run, replacing


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


def write(run: Run, evaluations: Sequence[str]) -> None:
    """Write `citations.bib` into the run folder.

    Args:
        run: what it was.
        evaluations: names of those that applied: the others were not used.

    Raises:
        UserError: a class names a paper that docs/papers.bib does not have.
    """
    known = bibliography()
    callbacks = run.config["callbacks"]
    nodes = (callbacks.get("evaluation") or {}).items()
    used = {"evaluation": {name: node for name, node in nodes if name in evaluations}}
    wanted = sorted(set(keys(run.config | {"callbacks": callbacks | used})))
    unknown = [key for key in wanted if key not in known]
    if unknown:
        raise UserError(
            f"docs/papers.bib has no entry for {', '.join(unknown)}.", "Add it, or mend `papers` of the class."
        )
    with replacing(run.folder / "citations.bib") as temporary:
        temporary.write_text("\n\n".join(known[key].text for key in wanted) + ("\n" if wanted else ""))
