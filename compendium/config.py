"""Configs as data: where they lie, what they say of themselves, and how a `_target_` becomes an object.

Nothing here imports Hydra or torch, so that a checkpoint opens in plain Python and `--help` is quick.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from compendium.errors import UserError, did_you_mean

ROOT = Path(__file__).resolve().parent.parent
CONF = ROOT / "conf"

ALLOWED = (
    "callbacks",
    "compendium",
    "datamodules",
    "kornia",
    "lightning",
    "modules",
    "torch.nn",
    "torch.optim",
    "torchmetrics",
)
"""Packages that a `_target_` may name. `COMPENDIUM_ALLOW=mine,theirs` adds a person's own; a config cannot."""


@cache
def choices(group: str) -> dict[str, Path]:
    """The choices of a config group, sub-folders included: {"generative/stochastic_interpolant": path}."""
    folder = CONF / group
    return {
        path.relative_to(folder).with_suffix("").as_posix(): path
        for path in sorted(folder.rglob("*.yaml"))
        if not path.name.startswith("_")
    }


@cache
def summary(path: Path) -> tuple[str, frozenset[str]]:
    """The line with which a config introduces itself: its first comment, and the [tags] at the end of it."""
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.lstrip("# ").strip()
        if not line.startswith("#") or not text or text.startswith("@package"):
            continue
        match = re.fullmatch(r"(.*?)\s*\[([\w ]+)\]", text)
        return (match[1], frozenset(match[2].split())) if match else (text, frozenset())
    return "", frozenset()


def choices_tagged(group: str, *alternatives: tuple[str | None, ...]) -> list[str]:
    """Choices of a group that carry, for each set of alternatives, one of its tags (None: nothing is asked)."""
    fitting = []
    for name, path in choices(group).items():
        _, tags = summary(path)
        if tags and all(None in wanted or tags & set(wanted) for wanted in alternatives):
            fitting.append(name)
    return fitting


def allowed(target: str) -> bool:
    """Whether a `_target_` lies in a package of the allow-list."""
    extra = tuple(filter(None, os.environ.get("COMPENDIUM_ALLOW", "").split(",")))
    return any(target == package or target.startswith(f"{package}.") for package in ALLOWED + extra)


def locate(target: str, where: str = "") -> Any:
    """Import what a `_target_` names.

    Args:
        target: dotted path of a class or function.
        where: the config node, for the message.

    Raises:
        UserError: outside the allow-list, or nothing of that name.
    """
    prefix = f"{where}._target_" if where else "_target_"
    if not allowed(target):
        raise UserError(
            f"{prefix}={target} is not in a package that configs may call ({', '.join(ALLOWED)}).",
            f"If you trust it: COMPENDIUM_ALLOW={target.split('.')[0]} python train.py ...",
        )
    module_name, _, attribute = target.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise UserError(f"{prefix}={target}: there is no module '{error.name}'.") from None
    if not hasattr(module, attribute):
        raise UserError(
            f"{prefix}={target}: '{module_name}' has no '{attribute}'.", did_you_mean(attribute, dir(module))
        )
    return getattr(module, attribute)


def instantiate(node: Mapping[str, Any], *args: Any, where: str = "", **more: Any) -> Any:
    """Call what a config node names with the node's other keys as keyword arguments.

    Nested nodes are handed over as they are: who asks for a part builds it, so that a checkpoint can keep the config.

    Args:
        node: a mapping with `_target_`; keys that begin with an underscore are not arguments.
        args: positional arguments.
        where: the config node, for messages.
        more: keyword arguments that win over the node's.

    Raises:
        UserError: no `_target_`, outside the allow-list, an argument that the target does not take, or a value that it
            refuses.
    """
    if "_target_" not in node:
        raise UserError(f"{where or 'config'} names no _target_.")
    target = locate(str(node["_target_"]), where)
    arguments = {key: value for key, value in node.items() if not key.startswith("_")} | more
    check_arguments(target, arguments, where or str(node["_target_"]), len(args))
    try:
        return target(*args, **arguments)
    except (TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{where or node['_target_']}: {reason}", "debug=true shows where it comes from") from error


def check_arguments(target: Any, arguments: Mapping[str, Any], where: str, positional: int = 0) -> None:
    """Refuse keywords that a callable does not take, and name the ones that it misses."""
    names, required, open_ended = signature(target)
    label = getattr(target, "__name__", str(target))
    required = [name for name in required if name in names[positional:]]
    refuse_arguments(label, list(arguments), names[positional:], required, open_ended, where)


def refuse_arguments(
    label: str, given: list[str], names: list[str], required: list[str], open_ended: bool, where: str
) -> None:
    """Refuse arguments that are not among `names`, and name the required ones that are missing.

    Raises:
        UserError: with the nearest name.
    """
    unknown = [] if open_ended else [name for name in given if name not in names]
    missing = [name for name in required if name not in given]
    if unknown:
        raise UserError(f"{where}.{unknown[0]}: {label} takes no '{unknown[0]}'.", did_you_mean(unknown[0], names))
    if missing:
        raise UserError(f"{where}: {label} needs {', '.join(missing)}.", f"add {where}.{missing[0]}=VALUE")


def signature(target: Any) -> tuple[list[str], list[str], bool]:
    """(names of all arguments, names of the required ones, whether any other keyword is taken).

    A class whose `__init__` hands `**parts` on to its parent takes the parent's arguments too.
    """
    names: list[str] = []
    required: list[str] = []
    owners = []
    if inspect.isclass(target):
        owners = [vars(cls)["__init__"] for cls in target.__mro__[:-1] if "__init__" in vars(cls)]
        if not owners:
            return names, required, False  # no constructor of its own: it takes nothing
    for function in owners or [target]:
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError):
            return names, required, True
        for parameter in parameters[1 if owners else 0 :]:
            if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                continue
            if parameter.name not in names:
                names.append(parameter.name)
                if parameter.default is parameter.empty:
                    required.append(parameter.name)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return names, required, False
    return names, required, True


def scalars(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of everything in plain values that is no mapping or list."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from scalars(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from scalars(value, f"{path}[{index}]")
    else:
        yield path, node
