"""The bibliography, and the index that is made from it."""

from __future__ import annotations

import json
import re

import pytest

from compendium import index, papers
from compendium.claims import record
from compendium.config import CONF
from compendium.errors import UserError
from compendium.papers import KINDS, bibliography, by_target, claims, places

ENTRY = """@misc{{{key},
  title = {{A Title}},
  year = {{2024}},
  room = {{{room}}},
  kind = {{method}}
}}
"""


def test_the_page_is_what_the_sources_say():
    assert index.main(["--check"]) == 0, "docs/papers.md is stale: python -m compendium.index"


def test_every_paper_is_there_once_with_all_that_it_needs():
    found = bibliography()
    assert len(found) == 485
    titles = {re.sub(r"\W", "", paper.title.lower()) for paper in found.values()}
    assert len(titles) == len(found)
    for paper in found.values():
        assert paper.kind in KINDS
        assert 1980 <= int(paper.year) <= 2026
        assert (CONF.parent / "docs" / "rooms" / f"{paper.room}.md").is_file(), paper.room
        assert bool(paper.reason) == (paper.kind == "none"), paper.key
        assert not paper.arxiv or re.fullmatch(r"\d{4}\.\d{4,5}|[a-z-]+/\d{7}", paper.arxiv), paper.key


def test_every_row_says_what_there_is(capfd):
    rows = [line for line in index.page().splitlines() if line.startswith("| ") and "<small id=" in line]
    assert len(rows) == 485
    for line in rows:
        _, _, here, command, result, _ = re.split(r"(?<!\\)\|", line)
        assert here.strip()
        assert command.strip() or "nothing to run:" in here
        if "compare.py" in command:
            assert result.strip(), line


def test_every_claim_and_every_key_in_the_code_is_a_paper():
    known = bibliography()
    assert {key for place in places() for key in place.papers} <= set(known)
    for key, name in claims().items():
        assert name == f"{known[key].room}/{key}"


def test_where_the_code_of_a_paper_lies_says_what_it_is():
    axes = {place.target: place.axis for place in places()}
    assert axes["modules.optimization.soap.SOAP"] == "optimizer"
    assert axes["modules.generative.stochastic_interpolant.StochasticInterpolant"] == "method"
    assert by_target()["modules.optimization.soap.SOAP"] == "optimizer=soap"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ENTRY.format(key="a2024b", room=""), "a2024b has no room"),
        (ENTRY.format(key="a2024b", room="x").replace("method", "poem"), "kind poem"),
        (ENTRY.format(key="a2024b", room="x") * 2, "does not parse, or its key is taken"),
    ],
)
def test_mistakes_in_the_bibliography(tmp_path, text, message):
    path = tmp_path / "papers.bib"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        bibliography(path)


@pytest.mark.parametrize(
    ("authors", "byline"),
    [
        ("", "2024"),
        ("Lovelace, Ada", "Lovelace 2024"),
        ("Ada Lovelace and Charles Babbage", "Lovelace and Babbage 2024"),
        ("Ada Lovelace and Charles Babbage and Luigi Menabrea", "Lovelace et al. 2024"),
    ],
)
def test_bylines(authors, byline):
    assert papers.Paper("key", "Title", "2024", authors, "", "room", "method", "", "").byline == byline


def test_a_key_that_is_not_there_is_refused(monkeypatch):
    place = papers.Place("modules.room.method.Method", "method", ("nobody2024nothing",))
    monkeypatch.setattr(index, "places", lambda: (place,))
    with pytest.raises(UserError, match="nobody2024nothing"):
        index.page()


def test_a_result_of_a_paper_that_is_not_there_is_refused(tmp_path, monkeypatch):
    (tmp_path / "results" / "room").mkdir(parents=True)
    (tmp_path / "results" / "room" / "nobody2024nothing.json").write_text("{}")
    monkeypatch.setattr(index, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(index, "ROOT", tmp_path)
    with pytest.raises(UserError, match="nobody2024nothing"):
        index.page()


def test_no_figure_without_its_file(tmp_path, monkeypatch):
    """A verdict stands on the page only where its result lies, and with that result's own figures."""
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    assert "**holds**" not in index.page()
    (tmp_path / "optimization").mkdir()
    result = {
        "verdict": "holds",
        "checks": [{"why": "true by 0.4242"}],
        "made": {"date": "2026-01-02", "commit": "abc"},
    }
    (tmp_path / "optimization" / "vyas2024soap.json").write_text(json.dumps(result))
    row = next(line for line in index.page().splitlines() if "vyas2024soap" in line)
    assert "✓ **holds**: true by 0.4242 (2026-01-02, `abc`)" in row


def test_a_stale_page_is_told_of(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(index, "PAGE", tmp_path / "papers.md")
    assert index.main(["--check"]) == 1
    assert "python -m compendium.index" in capsys.readouterr().err
    assert index.main([]) == 0
    assert index.main(["--check"]) == 0
