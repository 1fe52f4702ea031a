"""What a class of this project says of itself, read from its source without importing it.

Importing Lightning takes longer than a step of training. `dry=true` reads instead: the arguments of a constructor, and
the class attributes that say which batches and which data a class takes.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from compendium.config import ROOT


@dataclass(frozen=True)
class Blueprint:
    """A class or function as its source has it, what it inherits from this project's classes included.

    Attributes:
        names: arguments.
        required: those without a default.
        open_ended: whether any other keyword is taken, by a parent that is not ours.
        attributes: name -> value of class attributes that are literals, or the name that they refer to.
        methods: functions that the class or a parent defines, by the class that defines them.
    """

    names: list[str] = field(default_factory=list)
    required: list[str] = field(default_factory=list)
    open_ended: bool = False
    attributes: dict[str, Any] = field(default_factory=dict)
    methods: dict[str, str] = field(default_factory=dict)


@cache
def blueprint(target: str) -> Blueprint | None:
    """The blueprint of a dotted path; None where the path is not this project's or names no class or function."""
    module, _, name = target.rpartition(".")
    tree = parsed(module)
    if tree is None:
        return None
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            names, required, rest = arguments(node, skip=0)
            return Blueprint(names, required, rest)
        if isinstance(node, ast.ClassDef) and node.name == name:
            return of_class(node, module, imports(tree))
    source = imports(tree).get(name)
    return blueprint(source) if source else None


def of_class(node: ast.ClassDef, module: str, imported: dict[str, str]) -> Blueprint:
    """A class, after its parents."""
    parents = [
        found
        for base in node.bases
        if isinstance(base, ast.Name) and (found := blueprint(imported.get(base.id, f"{module}.{base.id}")))
    ]
    foreign = len(parents) < len(node.bases)
    plan = Blueprint(open_ended=foreign)
    for parent in reversed(parents):
        plan.attributes.update(parent.attributes)
        plan.methods.update(parent.methods)
    constructor = None
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef):
            plan.methods[statement.name] = f"{module}.{node.name}"
            constructor = statement if statement.name == "__init__" else constructor
        elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            plan.attributes[statement.targets[0].id] = literal(statement.value)
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value:
            plan.attributes[statement.target.id] = literal(statement.value)
    # As in the order in which Python looks: a parent without a constructor hands the call on to the next.
    first = parents[0] if parents else Blueprint(open_ended=foreign)
    inherited = next((parent for parent in parents if "__init__" in parent.methods), first)
    if constructor is None:
        names, required, open_ended = list(inherited.names), list(inherited.required), inherited.open_ended
    else:
        names, required, rest = arguments(constructor, skip=1)
        if rest:
            required += [name for name in inherited.required if name not in names]
            names += [name for name in inherited.names if name not in names]
        open_ended = rest and inherited.open_ended
    return Blueprint(names, required, open_ended, plan.attributes, plan.methods)


def arguments(function: ast.FunctionDef, skip: int) -> tuple[list[str], list[str], bool]:
    """(names, names without a default, whether it takes any keyword) of a function, without its first `skip`."""
    given = function.args
    positional = [argument.arg for argument in given.args]
    required = positional[: len(positional) - len(given.defaults)]
    only = [argument.arg for argument in given.kwonlyargs]
    required += [name for name, default in zip(only, given.kw_defaults, strict=True) if default is None]
    first = set(positional[:skip])
    names = [name for name in positional + only if name not in first]
    return names, [name for name in required if name not in first], given.kwarg is not None


def literal(node: ast.expr) -> Any:
    """The value of an expression, or the name that it is."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        return node.id if isinstance(node, ast.Name) else None


@cache
def parsed(module: str) -> ast.Module | None:
    """The syntax tree of one of this project's modules."""
    stem = ROOT.joinpath(*module.split("."))
    path = next((file for file in (stem.with_suffix(".py"), Path(stem) / "__init__.py") if file.is_file()), None)
    return ast.parse(path.read_text(encoding="utf-8")) if path else None


def imports(tree: ast.Module) -> dict[str, str]:
    """Local name -> dotted path of everything that a module imports by name."""
    return {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
