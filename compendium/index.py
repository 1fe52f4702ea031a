"""`python -m compendium.index`: docs/papers.md, made from docs/papers.bib, the code and results/; `--check` compares.

For every paper: what it is here, the command that runs it, and the recorded verdict with its figures, date and commit.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

from compendium.claims.record import RESULTS, stored_path
from compendium.claims.table import MARKS
from compendium.config import ROOT
from compendium.errors import UserError, report
from compendium.papers import Paper, Place, bibliography, by_target, claims, places
from compendium.run import read_json, replacing

PAGE = ROOT / "docs" / "papers.md"
HEAD = """# The papers

Made by `python -m compendium.index` from [papers.bib](papers.bib), the code and the recorded results: do not edit.

A paper is *done* when its claim has a recorded result. ✓ the claim holds, ✗ it fails (an honest `fails` is a result),
? the evidence does not tell. Each command runs the claim again, in a few minutes on two cores.

"""


def page() -> str:
    """The whole index as Markdown.

    Raises:
        UserError: something here names a paper, or records a result of one, that the bibliography does not have.
    """
    papers = bibliography()
    check_keys(papers)
    rooms = Counter(paper.room for paper in papers.values())
    done = Counter(paper.room for paper in papers.values() if result_of(paper))
    lines = [HEAD + summary(papers), "| room | papers | with a result |", "|---|---:|---:|"]
    lines += [f"| [{room}](#{room}) | {count} | {done[room]} |" for room, count in sorted(rooms.items())]
    for room in sorted(rooms):
        lines += ["", f"## {room}", "", "| paper | here | command | result |", "|---|---|---|---|"]
        lines += [row(paper) for paper in papers.values() if paper.room == room]
    return "\n".join(lines) + "\n"


def summary(papers: Mapping[str, Paper]) -> str:
    """One line of counts."""
    verdicts = Counter(result["verdict"] for paper in papers.values() if (result := result_of(paper)))
    counted = ", ".join(f"{verdicts[word]} {word}" for word in MARKS if verdicts[word]) or "none recorded yet"
    return f"{len(papers)} papers; claims with a result: {counted}.\n"


def check_keys(papers: Mapping[str, Paper]) -> None:
    """Refuse code, claims and results of papers that are not in the bibliography."""
    named = [(place.file, key) for place in places() for key in place.papers]
    named += [(f"conf/claim/{name}.yaml", key) for key, name in claims().items()]
    named += [(path.relative_to(ROOT).as_posix(), path.stem) for path in sorted(RESULTS.glob("*/*.json"))]
    for file, key in named:
        if key not in papers:
            raise UserError(f"{file} names the paper {key}, which docs/papers.bib does not have.")
    for key, name in claims().items():
        if name.rpartition("/")[0] != papers[key].room:
            raise UserError(f"conf/claim/{name}.yaml: docs/papers.bib has {key} in room {papers[key].room}.")


def result_of(paper: Paper) -> dict[str, Any] | None:
    """The recorded result of a paper's claim."""
    path = stored_path(f"{paper.room}/{paper.key}")
    return read_json(path) if path.is_file() else None


def row(paper: Paper) -> str:
    """A paper's line of its room's table."""
    title = paper.title.replace("|", "\\|")
    link = f"[{title}](https://arxiv.org/abs/{paper.arxiv})" if paper.arxiv else title
    own = [place for place in places() if paper.key in place.papers]
    cells = [f'{link}<br><small id="{paper.key}">{paper.byline} · `{paper.key}`</small>', here(paper, own)]
    return "| " + " | ".join([*cells, command(paper, own), outcome(paper)]) + " |"


def here(paper: Paper, own: list[Place]) -> str:
    """What the paper is in this project."""
    if own:
        axes = ", ".join(dict.fromkeys(place.axis for place in own))
        files = ", ".join(f"`{file}`" for file in dict.fromkeys(place.file for place in own))
        return f"{axes}: {files}"
    if paper.kind == "none":
        return f"nothing to run: {paper.reason}"
    return {"finding": "finding", "benchmark": "metric or data"}.get(paper.kind, "method")


def command(paper: Paper, own: list[Place]) -> str:
    """The command that runs it."""
    if paper.key in claims():
        return f"`python compare.py claim={claims()[paper.key]}`"
    chosen = [by_target()[place.target] for place in own if place.target in by_target()]
    if chosen:
        return f"`python train.py {chosen[0]}`"
    return "" if paper.kind == "none" else "not built yet"


def outcome(paper: Paper) -> str:
    """The recorded verdict, with the figures of its first checks."""
    result = result_of(paper)
    if result is None:
        return "not run yet" if paper.key in claims() else ""
    made = result["made"]
    whys = [f"{check['why']}" for check in result["checks"][:2]]
    more = f"; and {len(result['checks']) - 2} more" if len(result["checks"]) > 2 else ""
    head = f"{MARKS[result['verdict']]} **{result['verdict']}**"
    text = f"{head}: {'; '.join(whys)}{more} ({made['date']}, `{made['commit']}`)"
    return text.replace("|", "\\|")


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns 0, 1 where the page is stale, 2 for a mistake."""
    parser = argparse.ArgumentParser("python -m compendium.index", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="say whether docs/papers.md is as it should be")
    try:
        text = page()
        if parser.parse_args(arguments).check:
            current = PAGE.read_text(encoding="utf-8") if PAGE.is_file() else ""
            if current != text:
                print("docs/papers.md is stale: python -m compendium.index", file=sys.stderr)
            return int(current != text)
        with replacing(PAGE) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except UserError as error:
        return report(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
