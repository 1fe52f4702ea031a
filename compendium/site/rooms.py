"""Rooms: under the prose of `docs/rooms/<room>.md` stand the room's papers, claims and modules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache

from compendium.config import ROOT
from compendium.index import row
from compendium.papers import bibliography, by_target, places
from compendium.site.claims import Entry
from compendium.site.reference import link, sections, summary
from compendium.site.text import badge, escaped, sentence, table, title

FOLDER = ROOT / "docs" / "rooms"
HEAD = """# Rooms

A room is a field. Its page says what the question is, what the methods of the field build on and how one compares them,
and then lists the papers, the claims and the code that are here.
"""


@cache
def prose() -> dict[str, str]:
    """Room -> what `docs` has on it."""
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.md"))}


def titles() -> dict[str, str]:
    """Room -> its name on the page."""
    return {room: title(text) for room, text in prose().items()}


def index(found: Sequence[Entry]) -> str:
    """All rooms with their first sentence and how much is there."""
    papers = Counter(paper.room for paper in bibliography().values())
    claims = Counter(entry.claim.room for entry in found)
    results = Counter(entry.claim.room for entry in found if entry.result is not None)
    rows = []
    for room, text in prose().items():
        counts = [str(counted[room]) for counted in (papers, claims, results)]
        rows.append((f"[{title(text)}]({room}.md)<br>{sentence(text)}", *counts))
    return "\n".join([HEAD, *table(("room", "papers", "claims", "results"), rows), ""])


def appendix(room: str, found: Sequence[Entry]) -> str:
    """What is here of a room."""
    mine = [entry for entry in found if entry.claim.room == room]
    papers = [paper for paper in bibliography().values() if paper.room == room]
    lines = ["", "## Claims", "", *(claims(mine) if mine else ["There is no claim yet."]), ""]
    lines += ["## Code", "", *code(room), ""]
    lines += ["## Papers", "", "| paper | here | command | result |", "|---|---|---|---|", *map(row, papers), ""]
    return "\n".join(lines)


def claims(found: Sequence[Entry]) -> list[str]:
    """Claims with their verdicts."""
    rows = [
        (badge(entry.verdict), f"[{escaped(entry.claim.statement)}](../{entry.uri})", escaped(entry.paper.byline))
        for entry in found
    ]
    return table(("verdict", "claim", "paper"), rows)


def code(room: str) -> list[str]:
    """The modules of a room, and those elsewhere that stand on its papers."""
    keys = {paper.key for paper in bibliography().values() if paper.room == room}
    own = [module for section in sections() if section.name == room for module in section.modules]
    shared = [place.target.rpartition(".")[0] for place in places() if keys & set(place.papers)]
    modules = dict.fromkeys([*own, *shared])
    if not modules:
        return ["Nothing yet."]
    return table(
        ("module", "what it is", "choice"), [(link(one), escaped(summary(one)), choices(one)) for one in modules]
    )


def choices(module: str) -> str:
    """The config choices that a module is behind."""
    named = [choice for target, choice in by_target().items() if target.rpartition(".")[0] == module]
    return "<br>".join(f"`{choice}`" for choice in named)
