"""Claims as pages: from `conf/claim` what is said, from `results` alone what came out."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compendium.claims.claim import Claim
from compendium.claims.picture import draw
from compendium.claims.plan import mark
from compendium.claims.table import markdown
from compendium.errors import UserError
from compendium.index import result_of
from compendium.papers import Paper, bibliography, by_target, claims, places
from compendium.site.text import badge, bash, escaped, table

LATEST = 8
"""Verdicts on the home page."""
OURS = ("modules.", "datamodules.", "callbacks.")
"""Where what the reference describes lies."""

WIDE = "---\nhide: [navigation]\n---\n\n"
"""Front matter of pages that the menu does not have: their tables may be wider."""
NOTE = (
    "Intervals of differences hold together for all arms (Bonferroni), p-values are Holm's; all are paired by seed. "
    "[What the words mean](../../guides/statistics.md)."
)
HEAD = f"""{WIDE}# Claims

Each card is a paper's claim, stored as a file, and run as one command over several seeds. The verdict is that of its
checks: **holds**, **fails**, or **inconclusive** where the evidence does not tell. A failure that was run honestly is a
result like any other. [How verdicts are made](../guides/statistics.md), [how to write a claim](../guides/claim.md).
"""


@dataclass(frozen=True)
class Entry:
    """A stored claim, its paper, and its recorded result, if there is one."""

    claim: Claim
    paper: Paper
    result: Mapping[str, Any] | None

    @property
    def uri(self) -> str:
        return f"claims/{self.claim.name}.md"

    @property
    def picture(self) -> str:
        return f"claims/{self.claim.name}.png"

    @property
    def verdict(self) -> str | None:
        return None if self.result is None else self.result["verdict"]

    @property
    def command(self) -> str:
        return f"python compare.py claim={self.claim.name}"


def entries() -> list[Entry]:
    """Every stored claim, by name.

    Raises:
        UserError: a claim that is none, or one of a paper that the bibliography does not have.
    """
    papers = bibliography()
    for key, name in claims().items():
        if key not in papers:
            raise UserError(f"conf/claim/{name}.yaml: docs/papers.bib has no {key}.")
    return [Entry(Claim.stored(name), papers[key], result_of(papers[key])) for key, name in claims().items()]


def gallery(found: Sequence[Entry], titles: Mapping[str, str]) -> str:
    """All claims as cards, by room; the rooms have `titles`."""
    lines = [HEAD]
    for room, name in titles.items():
        if mine := [entry for entry in found if entry.claim.room == room]:
            lines += [f"## [{name}](../rooms/{room}.md) {{ #{room} }}", "", *cards(mine)]
    return "\n".join(lines)


def cards(found: Sequence[Entry]) -> list[str]:
    """Claims as cards, on a page that lies beside the folders of the rooms."""
    lines = ['<div class="grid cards claims" markdown>', ""]
    for entry in found:
        page, picture = (uri.removeprefix("claims/") for uri in (entry.uri, entry.picture))
        parts = [f"**[{escaped(entry.paper.title)}]({page})**", f"{badge(entry.verdict)} {escaped(entry.paper.byline)}"]
        if entry.result is not None:
            parts.append(f"[![What came out]({picture}){{ loading=lazy }}]({page})")
        parts.append(escaped(entry.claim.statement))
        lines += ["-   " + "\n\n    ".join(parts), ""]
    return [*lines, "</div>", ""]


def latest(found: Sequence[Entry]) -> str:
    """The newest results as a table, for the home page."""
    done = [(entry.result["made"]["date"], entry) for entry in found if entry.result is not None]
    if not done:
        return "No result is recorded yet."
    newest = sorted(done, key=lambda one: one[0], reverse=True)[:LATEST]
    rows = [
        (
            badge(entry.verdict),
            f"[{escaped(entry.claim.statement)}]({entry.uri})",
            escaped(entry.paper.byline),
            f'<span class="whole">{date}</span>',
        )
        for date, entry in newest
    ]
    return "\n".join(table(("verdict", "claim", "paper", "date"), rows))


def picture(result: Mapping[str, Any]) -> bytes:
    """The picture of a result as PNG."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        draw(result, path)
        return path.read_bytes()


def page(entry: Entry) -> str:
    """The page of a claim."""
    paper, claim = entry.paper, entry.claim
    where = f"[Claims](../index.md) · [{claim.room}](../../rooms/{claim.room}.md) · {escaped(paper.byline)}"
    lines = [
        f"{WIDE}# {escaped(paper.title)}",
        "",
        where,
        "",
        badge(entry.verdict),
        "",
        f"> {escaped(claim.statement)}",
        "",
    ]
    lines += outcome(entry) if entry.result is not None else unrecorded(entry)
    lines += how(entry)
    lines += [] if entry.result is None else made_with(entry.result)
    lines += ["## Paper", "", "```bibtex", paper.text.strip(), "```", ""]
    lines += [f"[arXiv:{paper.arxiv}](https://arxiv.org/abs/{paper.arxiv}) · " * bool(paper.arxiv) + row_of(paper), ""]
    return "\n".join([*lines, *parts(entry)])


def row_of(paper: Paper) -> str:
    """A link to a paper's line of the index."""
    return f"[its line in the index of papers](../../papers.md#{paper.key})"


def outcome(entry: Entry) -> list[str]:
    """Picture, command, tables and checks of a recorded result."""
    assert entry.result is not None
    name = Path(entry.picture).name
    missing = [f"- missing: {escaped(run)} ({escaped(why)})" for run, why in entry.result["missing"].items()]
    return [
        f"[![The figures of each arm, with 95% intervals over seeds]({name})]({name})",
        "",
        *bash(entry.command),
        "",
        "## Figures and checks",
        "",
        markdown(entry.result),
        *missing,
        "",
        NOTE,
        "",
    ]


def unrecorded(entry: Entry) -> list[str]:
    """The command and the checks of a claim without a result."""
    checks = [f"- `` {check.text} ``" for check in entry.claim.parsed]
    said = "No result is recorded yet. This command runs the claim, prints the verdict, and records it:"
    return [said, "", *bash(entry.command), "", "## Checks", "", *checks, ""]


def how(entry: Entry) -> list[str]:
    """Arms and seeds as recorded, or as the claim has them now; the words about them are the claim's own."""
    claim, result = entry.claim, entry.result or {}
    seeds = ", ".join(map(str, result.get("seeds", claim.seeds)))
    stages = result.get("stages", claim.stages)
    overrides = recorded_arms(result) if result else arms(claim)
    rows = [(f"stage `{name}`", f"`{' '.join(text.split())}`") for name, text in stages.items()]
    rows += [(f"`{name}`", f"`{text}`") for name, text in overrides.items()]
    tuning = escaped(claim.tuning)
    lines = ["## How it is run", "", f"Seeds {seeds}; the baseline is `{claim.compared_with}`.", ""]
    lines += [*table(("arm", "overrides of `train.py`"), rows), ""]
    lines += ["## Tuning", "", tuning or "Nothing is said of it.", "", "## Deviations from the paper", ""]
    deviations = [f"{place}. {escaped(' '.join(text.split()))}" for place, text in enumerate(claim.deviations, 1)]
    lines += deviations or ["None."]
    if "paper" in claim.scale:
        lines += ["", "The same claim with the paper's own data and network, where there are GPUs:", ""]
        lines += bash(f"{entry.command} scale=paper")
    return [*lines, ""]


def recorded_arms(result: Mapping[str, Any]) -> dict[str, str]:
    """What each arm was composed from, with `{NAME}` where it starts from a stage, as in the claim."""
    found = {}
    for name, arm in result["arms"].items():
        found[name] = arm["overrides"]
        for stage in result["stages"]:
            found[name] = found[name].replace(mark(stage), f"{{{stage}}}")
    return found


def arms(claim: Claim) -> dict[str, str]:
    """What each arm is composed from, as the claim has it."""
    return {name: " ".join(f"{claim.base} {text}".split()) for name, text in claim.arms.items()}


def made_with(result: Mapping[str, Any]) -> list[str]:
    """When, from which code and with what a result was made."""
    made = result["made"]
    changed = ", with changes that were not committed" if made["commit"].endswith("+") else ""
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    rows = [
        ("command", f"`{made['command']}`"),
        ("date", made["date"]),
        ("commit", f"`{made['commit'].removesuffix('+') or 'none'}`{changed}"),
        ("config", f"`{result['config']}`"),
        ("machine", escaped(made["machine"])),
        ("time of all runs", f"{made['seconds']:g} s"),
        ("versions", escaped(versions)),
    ]
    return ["## Made with", "", *table(("", ""), rows), ""]


def parts(entry: Entry) -> list[str]:
    """Links into the reference: what the arms are made of, and what else stands on the paper."""
    choices = {choice: target for target, choice in by_target().items() if target.startswith(OURS)}
    texts = (entry.claim.base, *entry.claim.stages.values(), *entry.claim.arms.values())
    words = dict.fromkeys(shlex.split(" ".join(texts)))
    named = {choices[word]: f" (`{word}`)" for word in words if word in choices}
    named |= {place.target: "" for place in places() if entry.paper.key in place.papers and place.target not in named}
    if not named:
        return []
    links = [f"- [{target.rpartition('.')[2]}][{target}]{choice}" for target, choice in named.items()]
    return ["## In the reference", "", *links, ""]
