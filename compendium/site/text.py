"""Markdown from plain text and plain values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

from compendium.claims.table import MARKS

SPECIAL = re.compile(r"[\\*_\[\]|]")
BAR = "\\|"
CODE = re.compile(r"`([^`\n]+)`")
UNRECORDED = "not run yet"


def escaped(text: str) -> str:
    """Text whose characters stand for themselves; what it puts between backticks stays code."""
    parts = text.split("`")
    return "`".join(part if place % 2 else literal(part) for place, part in enumerate(parts))


def literal(text: str) -> str:
    """Text without code in it. Markdown knows no backslash before `<`, which HTML would take for a tag."""
    return SPECIAL.sub(r"\\\g<0>", text).replace("<", "&lt;")


def badge(verdict: str | None) -> str:
    """A verdict as a coloured label; None where nothing is recorded."""
    if verdict is None:
        return f'<span class="verdict unrecorded">{UNRECORDED}</span>'
    return f'<span class="verdict {verdict}">{MARKS[verdict]} {verdict}</span>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table, whose cells are Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def with_bars(markdown: str) -> str:
    """Tables as GitHub has them, `\\|` in code, for a Markdown that takes the backslash for a part of the code."""
    return CODE.sub(_with_bars, markdown)


def _with_bars(code: re.Match[str]) -> str:
    return f"<code>{escape(code[1]).replace(BAR, '&#124;')}</code>" if BAR in code[1] else code[0]


def bash(*lines: str) -> list[str]:
    """The lines of a block of commands."""
    return ["```bash", *lines, "```"]


def sentence(markdown: str) -> str:
    """The first sentence of a page, under its heading."""
    prose = " ".join(markdown.partition("\n\n")[2].partition("\n\n")[0].split())
    return re.split(r"(?<=[.?!]) (?=[A-Z])", prose, maxsplit=1)[0]


def title(markdown: str) -> str:
    """The heading of a page."""
    return markdown.partition("\n")[0].removeprefix("# ").strip()
