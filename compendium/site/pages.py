"""Everything that is made for MkDocs, by the address of its source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from compendium.config import ROOT
from compendium.site import claims, reference, rooms
from compendium.site.text import with_bars

VERDICTS = "<!-- the latest verdicts -->"
"""Where the home page has them."""
WIDE = ("papers.md",)
"""Pages of `docs` whose tables take the place of the menu."""
PROJECT = {"ARCHITECTURE.md": "architecture.md", "CONTRIBUTING.md": "contributing.md"}
"""Documents of the repository's root that are pages too."""


@cache
def entries() -> tuple[claims.Entry, ...]:
    """Every stored claim; read once for a build."""
    return tuple(claims.entries())


def generated() -> Iterator[tuple[str, str | bytes]]:
    """(address, content) of every page and picture that is no file of `docs`."""
    found = entries()
    yield "claims/index.md", claims.gallery(found, rooms.titles())
    for entry in found:
        yield entry.uri, claims.page(entry)
        if entry.result is not None:
            yield entry.picture, claims.picture(entry.result)
    yield "rooms/index.md", rooms.index(found)
    yield "reference/index.md", reference.index()
    for section in reference.sections():
        yield section.uri, reference.page(section)
    for source, uri in PROJECT.items():
        yield uri, (ROOT / source).read_text(encoding="utf-8")


def completed(uri: str, markdown: str) -> str:
    """A page with what is made for it."""
    return with_bars(_completed(uri, markdown))


def _completed(uri: str, markdown: str) -> str:
    folder, _, name = uri.rpartition("/")
    room = name.removesuffix(".md")
    if folder == "rooms" and room in rooms.titles():
        return f"{markdown}\n{rooms.appendix(room, entries())}"
    return markdown.replace(VERDICTS, claims.latest(entries())) if uri == "index.md" else markdown


def navigation(node: Any, uris: Sequence[str]) -> Any:
    """The `nav` of mkdocs.yml, in which `rooms/` stands for the first page of that folder and the others in order."""
    if isinstance(node, dict):
        return {name: navigation(one, uris) for name, one in node.items()}
    if isinstance(node, list):
        return [navigation(one, uris) for one in node]
    if not node.endswith("/"):
        return node
    inside = [uri for uri in uris if uri.startswith(node) and uri.endswith(".md")]
    return sorted(inside, key=lambda uri: uri != f"{node}index.md")
