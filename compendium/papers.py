"""The papers: docs/papers.bib, read by bibtexparser, and what of each is here."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from compendium.config import ROOT, choices
from compendium.errors import UserError

BIBLIOGRAPHY = ROOT / "docs" / "papers.bib"

KINDS = {
    "method": "a method, faithful at small scale",
    "backbone": "a method with a pluggable backbone, shown on a small stand-in",
    "finding": "a theorem or an empirical finding, reproduced as an experiment",
    "benchmark": "a benchmark, data set, metric or protocol",
    "none": "nothing to run",
}
"""What a paper is here, the `kind` of its entry."""

PLACES = {
    "modules/optimization": "optimizer",
    "modules/networks": "network",
    "modules": "method",
    "callbacks": "metric",
    "datamodules": "data",
}
"""Where a paper's code lies -> on which axis it is; the first that fits."""


@dataclass(frozen=True)
class Paper:
    """An entry of the bibliography.

    Attributes:
        key: by which everything here names it.
        title, year: exact.
        authors: as BibTeX has them; empty where they were not looked up.
        arxiv: identifier; empty likewise.
        room: where it belongs.
        kind: one of `KINDS`.
        reason: why there is nothing to run, for `none`.
        text: the entry as it stands in the file.
    """

    key: str
    title: str
    year: str
    authors: str
    arxiv: str
    room: str
    kind: str
    reason: str
    text: str

    @property
    def byline(self) -> str:
        """`Vyas et al. 2024`, `Błasiok and Nakkiran 2024`; the year alone where authors were not looked up."""
        names = [name.split(",")[0].strip() for name in self.authors.split(" and ")] if self.authors else []
        names = [name if "," in self.authors else name.rsplit(" ", 1)[-1] for name in names]
        if not names:
            return self.year
        who = names[0] if len(names) == 1 else " and ".join(names) if len(names) == 2 else f"{names[0]} et al."
        return f"{who} {self.year}"


@cache
def bibliography(path: Path = BIBLIOGRAPHY) -> dict[str, Paper]:
    """Key -> paper, in the order of the file.

    Raises:
        UserError: an entry that does not parse, or lacks a field that all have.
    """
    import bibtexparser

    library = bibtexparser.parse_file(str(path))
    if library.failed_blocks:
        line = (library.failed_blocks[0].start_line or 0) + 1
        raise UserError(f"{path.name}, line {line}: this entry does not parse, or its key is taken.")
    found = {}
    for entry in library.entries:
        fields = {name: str(one.value) for name, one in entry.fields_dict.items()}
        lacking = [name for name in ("title", "year", "room", "kind") if not fields.get(name)]
        if lacking or fields["kind"] not in KINDS:
            what = f"no {lacking[0]}" if lacking else f"kind {fields['kind']}"
            raise UserError(f"{path.name}: {entry.key} has {what}.", f"kinds are {', '.join(KINDS)}")
        found[entry.key] = Paper(
            entry.key,
            fields["title"],
            fields["year"],
            fields.get("author", ""),
            fields.get("eprint", ""),
            fields["room"],
            fields["kind"],
            fields.get("reason", ""),
            entry.raw or "",
        )
    return found


@dataclass(frozen=True)
class Place:
    """A class that says of itself which papers it stands on.

    Attributes:
        target: dotted path.
        axis: one of the values of `PLACES`.
        papers: keys.
    """

    target: str
    axis: str
    papers: tuple[str, ...]

    @property
    def file(self) -> str:
        return self.target.rpartition(".")[0].replace(".", "/") + ".py"


@cache
def places() -> tuple[Place, ...]:
    """Every class with an attribute `papers`, read from the source: nothing is imported."""
    return tuple(place for folder in ("modules", "callbacks", "datamodules") for place in _places(ROOT / folder))


def _places(folder: Path) -> Iterator[Place]:
    for path in sorted(folder.rglob("*.py")):
        module = path.relative_to(ROOT).with_suffix("").as_posix()
        axis = next(name for start, name in PLACES.items() if module.startswith(start))
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and (keys := _named(node)):
                yield Place(f"{module.replace('/', '.')}.{node.name}", axis, keys)


def _named(node: ast.ClassDef) -> tuple[str, ...]:
    """The keys in a class's own attribute `papers`."""
    for line in node.body:
        if isinstance(line, ast.Assign) and [ast.unparse(target) for target in line.targets] == ["papers"]:
            return tuple(ast.literal_eval(line.value))
    return ()


@cache
def by_target() -> Mapping[str, str]:
    """Dotted path -> the choice of a config group that names it, `model=...`, `optimizer=...`."""
    import yaml

    found: dict[str, str] = {}
    for group in ("model", "optimizer", "schedule", "net", "datamodule", "data", "callbacks/evaluation"):
        for name, path in choices(group).items():
            written: Any = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
            node = written.get("model", {}) if group == "model" else written
            if isinstance(node, dict) and "_target_" in node:
                found.setdefault(node["_target_"], f"{group}={name}")
    return found


def claims() -> dict[str, str]:
    """Paper key -> its claim, `<room>/<bibkey>`."""
    return {path.stem: name for name, path in choices("claim").items()}
