"""The built site: whole, without a dead link, and with every claim, result and room on it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

from compendium.claims.claim import Claim
from compendium.claims.table import MARKS
from compendium.config import ROOT, choices
from compendium.papers import bibliography
from compendium.site import claims, pages, reference, rooms
from compendium.site.text import escaped, sentence, with_bars

LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
"""What a browser fetches by itself."""


@dataclass
class Html(HTMLParser):
    """What a page links to, fetches, and can be linked to."""

    text: str
    links: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)

    def __post_init__(self):
        super().__init__()
        self.feed(self.text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.anchors |= {found[key] for key in ("id", "name") if found.get(key)}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if LOADED.get(tag) in found and found.get("rel") != "canonical":
            self.fetched.append(found[LOADED[tag]])


@cache
def read(path: Path) -> Html:
    return Html(path.read_text(encoding="utf-8"))


def target(site: Path, page: Path, link: str) -> tuple[Path, str]:
    """The file and the anchor that a link of a page leads to."""
    place, anchor = urldefrag(link)
    place = unquote(urlsplit(place).path)
    path = page if not place else site / place.lstrip("/") if place.startswith("/") else (page.parent / place).resolve()
    return (path / "index.html" if path.is_dir() else path), unquote(anchor)


def test_every_link_and_picture_leads_somewhere(site):
    dead = []
    for page in site.rglob("*.html"):
        html = read(page)
        for link in (*html.links, *html.fetched):
            if urlsplit(link).scheme:
                continue
            path, anchor = target(site, page, link)
            known = path.is_file() and (not anchor or path.suffix != ".html" or anchor in read(path).anchors)
            if not known and anchor != "__top":
                dead.append(f"{page.relative_to(site)} -> {link}")
    assert not dead


def test_nothing_is_fetched_from_elsewhere(site):
    fetched = {link for page in site.rglob("*.html") for link in read(page).fetched}
    assert fetched
    assert not [link for link in fetched if urlsplit(link).netloc]
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert not re.findall(r"url\(['\"]?(?:https?:)?//", styles)


@pytest.mark.parametrize("name", choices("claim"))
def test_every_claim_has_its_page_with_all_that_was_recorded(site, name):
    claim = Claim.stored(name)
    page = (site / "claims" / name / "index.html").read_text(encoding="utf-8")
    words = " ".join(re.sub(r"<[^>]+>", "", page).split())
    result = json.loads((site.parent / "site-results" / f"{name}.json").read_text())
    assert f"python compare.py claim={name}" in words
    assert bibliography()[claim.paper].title in unescaped(words)
    assert f"{MARKS[result['verdict']]} {result['verdict']}" in words
    for said in (claim.statement, claim.tuning, *(check.text for check in claim.parsed)):
        assert plain(said) in unescaped(words)
    for text in claim.deviations:
        assert plain(text) in unescaped(words)
    picture = site / "claims" / f"{name}.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert read(site / "claims/index.html").links.count(f"{name}/") == 2


def unescaped(text: str) -> str:
    import html

    return html.unescape(text)


def plain(text: str) -> str:
    return " ".join(text.replace("`", "").split())


def test_a_claim_without_a_result_shows_its_command_and_its_checks():
    entry = claims.entries()[0]
    page = claims.page(claims.Entry(entry.claim, entry.paper, None))
    assert "No result is recorded yet" in page
    assert f"python compare.py claim={entry.claim.name}" in page
    assert entry.claim.parsed[0].text in page
    assert ".png" not in page
    assert "Made with" not in page


def test_the_home_page_has_the_latest_verdicts(site):
    page = read(site / "index.html")
    shown = [link for link in page.links if link.startswith("claims/") and link != "claims/"]
    assert len(shown) == min(claims.LATEST, len(choices("claim")))
    assert pages.VERDICTS in (ROOT / "docs/index.md").read_text()


def test_every_room_has_its_page(site):
    assert {paper.room for paper in bibliography().values()} == set(rooms.titles())
    for room in rooms.titles():
        prose = (ROOT / "docs/rooms" / f"{room}.md").read_text(encoding="utf-8")
        prose = re.sub(r"```[\s\S]*?```|^    .*$|^#.*$", "", prose, flags=re.M)
        assert len(prose.split()) >= 120, room
        assert sentence(f"# x\n\n{prose.strip()}").endswith("?"), f"{room} does not begin with its question"
        page = read(site / "rooms" / room / "index.html")
        assert {"papers", "claims", "code"} <= page.anchors
        assert {paper.key for paper in bibliography().values() if paper.room == room} <= page.anchors


def test_every_module_is_in_the_reference(site):
    for section in reference.sections():
        anchors = read(site / "reference" / section.name / "index.html").anchors
        assert set(section.modules) <= anchors
    everything = {module for section in reference.sections() for module in section.modules}
    for folder in ("modules", "datamodules/sources", "datamodules/presentations", "callbacks"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.stem[0] != "_":
                assert path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") in everything


def test_formulas_of_docstrings_are_blocks(site):
    page = (site / "reference/generative/index.html").read_text(encoding="utf-8")
    assert "dx = (b + epsilon(t) s) dt + sqrt(2 epsilon(t)) dW" in re.sub(r"<[^>]+>", "", page)


def test_what_is_made_is_not_written_into_docs(site):
    made = {uri for uri, _ in pages.generated()}
    assert not [uri for uri in made if (ROOT / "docs" / uri).exists()]


def test_plain_text_stays_as_it_is():
    assert escaped("a*b_c [d] <e> `f*` p(x|c)") == r"a\*b\_c \[d\] &lt;e> `f*` p(x\|c)"
    assert with_bars(r"| `a` \| `|b\| < 1` |".replace("|b", r"\|b")) == r"| `a` \| <code>&#124;b&#124; &lt; 1</code> |"


def test_a_folder_in_the_navigation_is_its_pages():
    uris = ["rooms/graph.md", "rooms/index.md", "rooms/note.png", "index.md"]
    given = [{"Home": "index.md"}, {"Rooms": "rooms/"}]
    assert pages.navigation(given, uris) == [{"Home": "index.md"}, {"Rooms": ["rooms/index.md", "rooms/graph.md"]}]
