"""A result as a table: on the terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compendium.claims.record import number

HEAD = ("arm", "mean", "sd", "n", "95% interval", "difference", "95% interval", "p")
WIDTH = 110
"""Below which the columns would be cut."""
MARKS = {"holds": "✓", "fails": "✗", "inconclusive": "?"}
COLOURS = {"holds": "green", "fails": "red", "inconclusive": "yellow"}


def cells(row: Mapping[str, Any]) -> list[str]:
    """One row of the table, as text."""
    if not row["n"]:
        return [row["arm"], "", "", "0", "", "", "", ""]
    out = [row["arm"], text(row["mean"]), text(row["sd"]), str(row["n"]), interval(row)]
    difference = row.get("difference")
    if difference is None:
        return [*out, "", "", ""]
    return [*out, signed(difference["estimate"]), interval(difference), text(difference["p"], 2)]


def text(value: Any, digits: int = 4) -> str:
    return "" if value is None else f"{number(value):.{digits}g}"


def signed(value: Any) -> str:
    return f"{number(value):+.4g}"


def interval(row: Mapping[str, Any]) -> str:
    """Bounds; nothing where there are none."""
    low, high = number(row["low"]), number(row["high"])
    return f"[{low:.4g}, {high:.4g}]" if abs(low) != float("inf") else ""


def figures(result: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    """The rows of each figure."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in result["table"]:
        found.setdefault(row["figure"], []).append(row)
    return found


def show(result: Mapping[str, Any]) -> None:
    """Print tables, checks and verdict."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    console.width = max(console.width, WIDTH)
    for figure, rows in figures(result).items():
        table = Table(title=f"{figure}, beside {result['baseline']}", title_justify="left")
        for number_of_column, name in enumerate(HEAD):
            table.add_column(name, justify="left" if number_of_column == 0 else "right", no_wrap=True)
        for row in rows:
            table.add_row(*(escape(cell) for cell in cells(row)))
        console.print(table)
    console.print("intervals of differences hold together for all arms (Bonferroni), p by Holm; paired by seed\n")
    for name, why in result["missing"].items():
        console.print(f"missing: {name} ({why})", markup=False)
    for check in result["checks"]:
        colour = COLOURS[check["verdict"]]
        head = f"[{colour}]{MARKS[check['verdict']]} {check['verdict']:<12}[/{colour}] {escape(check['check'])}"
        console.print(head, highlight=False, soft_wrap=True)
        console.print(f"               {escape(check['why'])}{escape(power(check))}", highlight=False, soft_wrap=True)
    if result["verdict"]:
        colour = COLOURS[result["verdict"]]
        what = result["statement"] or result["claim"]
        console.print(f"\n[bold {colour}]{result['verdict']}[/]: {escape(what)}", highlight=False, soft_wrap=True)


def power(check: Mapping[str, Any]) -> str:
    """What the check could have seen."""
    if check["detectable"] in (None, 0, 0.0):
        return ""
    return f"; {number(check['detectable']):.3g} would be found with probability 0.8"


def markdown(result: Mapping[str, Any]) -> str:
    """Tables and checks as Markdown."""
    lines = []
    for figure, rows in figures(result).items():
        lines += [f"**{figure}**, beside `{result['baseline']}`", "", "| " + " | ".join(HEAD) + " |"]
        lines += ["|---" + "|---:" * (len(HEAD) - 1) + "|"]
        lines += ["| " + " | ".join(cells(row)) + " |" for row in rows] + [""]
    if result["checks"]:
        lines += ["| check | verdict | evidence |", "|---|---|---|"]
        for check in result["checks"]:
            said = check["check"].replace("|", "\\|")
            lines.append(f"| `{said}` | {MARKS[check['verdict']]} {check['verdict']} | {check['why']}{power(check)} |")
    return "\n".join(lines) + "\n"
