"""The reference: which modules stand on which page. What they say is in their docstrings, which mkdocstrings shows."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from compendium.config import ROOT
from compendium.site.text import escaped, table

CONTRACTS = (
    "datamodules.source",
    "datamodules.spec",
    "datamodules.datamodule",
    "datamodules.batches",
    "modules.method",
    "modules.capabilities",
    "modules.hashing",
    "callbacks.evaluation.base",
)
FOLDERS = {
    "sources": ("Sources", "datamodules/sources", "Where records come from: the choices of `data=`."),
    "presentations": ("Presentations", "datamodules/presentations", "How a method wants its records: `datamodule=`."),
    "evaluations": ("Evaluations", "callbacks/evaluation", "They ask for a capability, and attach themselves."),
    "metrics": ("Metrics", "callbacks/metrics", "Pure functions behind the evaluations."),
    "callbacks": ("Callbacks", "callbacks", "Checkpoints, logs, averages of weights, pictures."),
}
"""Page -> its title, the folder that it shows, and what lies there; the rooms of `modules` are found."""


@dataclass(frozen=True)
class Section:
    """A page of the reference.

    Attributes:
        name: of the page and of its file.
        title: its heading.
        about: a sentence.
        modules: dotted names, in order.
    """

    name: str
    title: str
    about: str
    modules: tuple[str, ...]

    @property
    def uri(self) -> str:
        return f"reference/{self.name}.md"


@cache
def sections() -> tuple[Section, ...]:
    """Every page of the reference: the contracts, the rooms of `modules`, and the other folders."""
    contracts = Section("contracts", "Contracts", "What sources, methods and evaluations agree on.", CONTRACTS)
    return (contracts, *_rooms(), *(_folder(name) for name in FOLDERS))


def _rooms() -> Iterator[Section]:
    for folder in sorted(path for path in (ROOT / "modules").iterdir() if path.is_dir()):
        if modules := _modules(folder):
            title = folder.name.replace("_", " ").capitalize()
            yield Section(folder.name, title, f"What lies in `modules/{folder.name}`.", modules)


def _folder(name: str) -> Section:
    title, folder, about = FOLDERS[name]
    return Section(name, title, about, _modules(ROOT / folder, deep=name != "callbacks"))


def _modules(folder: Path, deep: bool = True) -> tuple[str, ...]:
    """The public modules of a folder that the contracts do not have."""
    paths = sorted(folder.rglob("*.py") if deep else folder.glob("*.py"))
    names = [
        path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for path in paths if path.stem[0] != "_"
    ]
    return tuple(name for name in names if name not in CONTRACTS)


@cache
def summary(module: str) -> str:
    """The first line of a module's docstring, read from the source."""
    source = (ROOT / module.replace(".", "/")).with_suffix(".py").read_text(encoding="utf-8")
    return " ".join((ast.get_docstring(ast.parse(source)) or "").partition("\n\n")[0].split())


def link(module: str) -> str:
    """A link to a module, wherever it stands."""
    return f"[`{'/'.join(module.split('.')[-2:])}`][{module}]"


def index() -> str:
    """The first page: every module with its line."""
    lines = ["# Reference", "", "Made from the docstrings of the code. A module is found by search, or here.", ""]
    for section in sections():
        rows = [(link(module), escaped(summary(module))) for module in section.modules]
        lines += [f"## [{section.title}]({section.name}.md)", "", section.about, "", *table(("module", ""), rows), ""]
    return "\n".join(lines)


def page(section: Section) -> str:
    """A page of modules."""
    lines = [f"# {section.title}", "", section.about, ""]
    for module in section.modules:
        path = f"{module.replace('.', '/')}.py"
        options = [f"        heading: {path}", f"        toc_label: {module.rpartition('.')[2]}"]
        lines += [f"::: {module}", "    options:", *options, ""]
    return "\n".join(lines)
