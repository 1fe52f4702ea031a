"""From a command line to one checked, resolved config, before anything heavy is imported.

All mistakes of a command line are found in one pass and shown together: unknown keys and choices, `+key` close to a
known key, missing values, values of the wrong type, a `_target_` outside the allow-list.
"""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from compendium.config import ALLOWED, CONF, allowed, choices, scalars
from compendium.errors import UserError, UserErrors, did_you_mean
from compendium.secrecy import secrets
from compendium.static import blueprint

FILE_CHOICES = {
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".npz": "npz",
    ".txt": "text",
    ".jsonl": "jsonl",
}


OF_A_CHOICE = ("optimizer", "schedule")
"""Groups whose values in a model's file are those of its own choice."""


@dataclass(frozen=True)
class Composed:
    """A resolved config and the choices that it was made of.

    Attributes:
        values: plain dicts, lists and scalars.
        choices: group -> choice, e.g. {"model": "supervised/classifier", "data": "digits"}.
    """

    values: dict[str, Any]
    choices: dict[str, str]


class Base(NamedTuple):
    """What choices of groups give, before values are set.

    Attributes:
        config: without Hydra's own; it stays as it is.
        choices: of all groups.
        keys: of the config.
        pickled: the config.
    """

    config: DictConfig
    choices: dict[str, str]
    keys: list[str]
    pickled: bytes

    def copy(self) -> DictConfig:
        """The config, to be changed; `deepcopy` takes seven times as long."""
        return pickle.loads(self.pickled)


def register() -> int:
    """Tell Hydra the groups that are whole folders, so that a new file there needs no entry anywhere.

    Returns:
        When the newest config file was written, see `newest`.
    """
    written = newest()
    registered(written)
    return written


@lru_cache(maxsize=1)
def registered(written: int) -> None:
    """Each of them as one node: Hydra takes a second for as many entries of a defaults list.

    Args:
        written: when the files were, so that a change makes it anew.
    """
    files = {name: path for name, path in choices("callbacks/evaluation").items() if "/" not in name}
    node = {name: OmegaConf.to_container(OmegaConf.load(path)) for name, path in files.items()}
    ConfigStore.instance().store(group="callbacks/evaluation", name="all", node=node)


def compose(arguments: Sequence[str]) -> Composed:
    """Compose, check and resolve.

    Args:
        arguments: Hydra overrides, as on the command line.

    Raises:
        UserErrors: everything that is wrong with them.
    """
    written = register()
    arguments = [part for argument in arguments for part in expand_path(argument)]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        overrides, errors = parse(arguments)
        errors += [several(override) for override in overrides if override.is_sweep_override()]
        overrides = [override for override in overrides if not override.is_sweep_override()]
        groups = [override for override in overrides if is_group(override) or override.key_or_group.startswith("hydra")]
        values = [override for override in overrides if override not in groups]
        errors += [error for override in groups if (error := check_choice(override))]
        good = [str(override.input_line) for override in groups if not check_choice(override)]
        base = base_of(tuple(good), written)
        errors += [error for override in values if (error := check_key(override, base.config, base.keys))]
        if errors:
            raise UserErrors(errors)
    chosen, plain = base.choices, resolved(with_values(base.copy(), values))
    for group in OF_A_CHOICE:
        forget_another_choice(plain[group], group, chosen, {override.key_or_group for override in overrides})
    errors = [
        UserError(
            f"{path}={target} is not in a package that configs may call ({', '.join(ALLOWED)}).",
            f"If you trust it: COMPENDIUM_ALLOW={str(target).split('.')[0]} python train.py ...",
        )
        for path, target in targets(plain)
        if not allowed(str(target))
    ]
    if not isinstance(plain["seed"], int) or plain["seed"] < 0:
        errors.append(UserError(f"seed={plain['seed']}: a whole number, at least 0."))
    errors += [
        UserError(
            f"{path} holds a secret, and configs are written down.",
            "Give it in the environment (HF_TOKEN, WANDB_API_KEY, ...).",
        )
        for path in secrets(plain)
    ]
    if errors:
        raise UserErrors(errors)
    names = {key: value for key, value in chosen.items() if not key.startswith("hydra/") and "@" not in key}
    return Composed(plain, names)


def resolved(config: DictConfig) -> dict[str, Any]:
    """Plain values, with what refers to others filled in.

    Raises:
        UserErrors: values that are missing, or refer to something that is not there.
    """
    if holes := [path for path, value in scalars(OmegaConf.to_container(config)) if value == MISSING]:
        raise UserErrors([missing(path) for path in sorted(holes)])
    try:
        plain = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key}: {first_line(error)}") from None
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def forget_another_choice(node: Any, group: str, chosen: Mapping[str, str], given: set[str]) -> None:
    """Drop what a model's file says for its own optimizer or schedule, where another choice takes no such key or value.

    Args:
        node: the group's plain values, changed in place.
        group: `optimizer` or `schedule`.
        chosen: group -> choice.
        given: keys of the command line, which stay whatever they are.
    """
    model = choices("model").get(chosen.get("model", ""))
    file = choices(group).get(chosen.get(group, ""))
    if not isinstance(node, dict) or model is None or file is None:
        return
    own = re.search(rf"override /{group}: (\S+)", model.read_text(encoding="utf-8"))
    if own is None or own[1] == chosen[group]:
        return
    known: Any = OmegaConf.to_container(OmegaConf.load(file))
    for key in [key for key in node if key not in known and f"{group}.{key}" not in given]:
        del node[key]
    plan = blueprint(str(known.get("_target_", "")))
    for key in plan.attributes.get("fixed", ()) if plan else ():
        if f"{group}.{key}" not in given:
            node[key] = known[key]


def expand_path(argument: str) -> list[str]:
    """`data=my.csv` and `data=pictures/` name the user's own file or folder: spell them out."""
    key, sign, value = argument.partition("=")
    if key != "data" or not sign or value in choices("data"):
        return [argument]
    path = Path(value).expanduser()
    if "," in value and not path.exists():  # a sweep: each of its jobs comes here by itself
        return [argument]
    if path.suffix.lower() in FILE_CHOICES:
        return [f"data={FILE_CHOICES[path.suffix.lower()]}", f"data.path={value}"]
    if path.is_dir():
        return ["data=image_folder", f"data.path={value}"]
    return [argument]


def parse(arguments: Sequence[str]) -> tuple[list[Override], list[UserError]]:
    """Overrides, and a message for each argument that is none."""
    parser = OverridesParser.create()
    overrides: list[Override] = []
    errors: list[UserError] = []
    for argument in arguments:
        try:
            overrides += parser.parse_overrides([argument])
        except HydraException:
            mend = "Write KEY=VALUE; quote values with spaces or brackets: 'KEY=\"a b\"'."
            if argument.startswith("-"):
                mend = "python train.py --help lists what there is."
            errors.append(UserError(f"'{argument}' is not understood.", mend))
    return overrides, errors


def several(override: Override) -> UserError:
    """Several values where a run has one."""
    mend = "-m makes a sweep of it: python train.py -m ...; a value with a comma in it is quoted: 'KEY=\"a,b\"'"
    return UserError(f"{override.input_line} gives several values, and a run has one.", mend)


def is_group(override: Override) -> bool:
    """Whether an override picks a choice of a config group rather than setting a value."""
    return (CONF / override.key_or_group).is_dir()


def with_values(config: DictConfig, values: Sequence[Override]) -> DictConfig:
    """Set values in a composed config, as Hydra sets them after it has composed: at a tenth of the time.

    A mapping with a `_target_` is another object and takes the old one's place, unmerged.
    """
    for override in values:
        key, value = override.key_or_group, override.value()
        try:
            if override.is_delete():
                delete(config, key, value)
                continue
            old = OmegaConf.select(config, key, throw_on_missing=False, throw_on_resolution_failure=False)
            if override.is_add() and old is not None and not isinstance(value, dict | list):
                raise UserError(f"+{key} adds a new key, and there is one already: {key}={old}.", f"{key}={value}")
            whole = isinstance(value, Mapping) and "_target_" in value and override.type is OverrideType.CHANGE
            added = override.is_add() or override.is_force_add() or (whole and OmegaConf.is_dict(old))
            OmegaConf.update(config, key, value, merge=not (whole and OmegaConf.is_dict(old)), force_add=added)
        except OmegaConfBaseException as error:
            raise UserError(f"{override.input_line}: {first_line(error)}") from None
    return config


def delete(config: DictConfig, key: str, value: Any) -> None:
    """Take a key out of a config; with a value, only if it has that."""
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    if value is not None and value != node.get(name):
        raise UserError(f"~{key}={value}: it is {node.get(name)}.", f"~{key} takes it out whatever it is")
    with open_dict(config):
        del node[name]


def newest() -> int:
    """When a config file was last written, in nanoseconds."""
    folders = os.walk(CONF)  # a third of the time of pathlib's rglob, and a comparison composes hundreds of runs
    files = (os.path.join(folder, name) for folder, _, names in folders for name in names if name.endswith(".yaml"))
    return max(os.stat(file).st_mtime_ns for file in files)


@lru_cache(maxsize=32)
def base_of(lines: tuple[str, ...], written: int) -> Base:
    """What choices of groups give, once for the many runs of a comparison that differ in values alone.

    Args:
        lines: the choices.
        written: when the files were, so that a change makes it anew.
    """
    config = composed(list(lines))
    chosen = {name: choice for name, choice in config.hydra.runtime.choices.items() if choice is not None}
    with open_dict(config):
        del config["hydra"]
    return Base(config, chosen, list(leaves(config)), pickle.dumps(config))


def composed(lines: list[str]) -> DictConfig:
    """Hydra's own composition; what it refuses after our checks comes as its own first line."""
    try:
        return hydra_compose("train", overrides=lines, return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        if match := re.match(r"Could not override '(\w+)'", str(error).strip()):
            raise axis_of_others(match[1]) from None
        raise UserError(first_line(error)) from None


def axis_of_others(group: str) -> UserError:
    """A choice on an axis that the model does not have, such as a sampler for a classifier."""
    others = [name for name, path in choices("model").items() if f"- /{group}:" in path.read_text(encoding="utf-8")]
    mend = f"models with one: {', '.join(others)}" if others else ""
    return UserError(f"{group}=: the model has no {group} to choose.", mend)


def check_choice(override: Override) -> UserError | None:
    """An unknown choice of a group."""
    group = override.key_or_group
    if group.startswith("hydra") and not is_group(override):
        return None
    value = override.value()
    wanted = value if isinstance(value, list) else [value]
    for choice in wanted:
        if choice is None or override.type is OverrideType.DEL or choice in choices(group):
            continue
        if group == "callbacks/evaluation" and choice == "all":
            continue
        if group.startswith("hydra/"):  # Hydra has launchers of its own
            continue
        mend = did_you_mean(str(choice), choices(group))
        return UserError(
            f"{group}={choice}: there is no such {group.rsplit('/', 1)[-1]}.", mend or f"see conf/{group}/"
        )
    return None


def check_key(override: Override, base: DictConfig, keys: list[str]) -> UserError | None:
    """An unknown key, a `+key` that is close to a known one, or a value of another type than the default's."""
    key = override.key_or_group
    known = key in keys or any(name.startswith(f"{key}.") for name in keys)
    if override.type is OverrideType.FORCE_ADD:
        return None
    if override.is_add():
        if known:
            return None
        near = did_you_mean(key, siblings(key, keys))
        if near.startswith("did you mean"):
            return UserError(
                f"+{key} adds a new key, but there is one close to it.", f"{near} (++{key} adds it anyway)"
            )
        return None
    if not known:
        return UserError(
            f"{key}: there is no such key.", did_you_mean(key, [*keys, *groups()]) or "++KEY=VALUE adds one"
        )
    if override.is_delete():
        return None
    default = OmegaConf.select(base, key, throw_on_missing=False, throw_on_resolution_failure=False)
    wrong = mismatch(default, override.value())
    return UserError(f"{key}={override.value()}: {wrong}.", f"the default is {key}={default}") if wrong else None


def mismatch(default: Any, value: Any) -> str | None:
    """How `value` is of another type than `default`; None if it may take its place."""
    if default is None or value is None or (isinstance(value, str) and "${" in value):
        return None
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "expected true or false"
    if isinstance(default, int):
        return None if isinstance(value, int) and not isinstance(value, bool) else "expected a whole number"
    if isinstance(default, float):
        return None if isinstance(value, int | float) and not isinstance(value, bool) else "expected a number"
    if OmegaConf.is_list(default):
        return None if isinstance(value, list) else "expected a list, [a,b]"
    if OmegaConf.is_dict(default):
        return None if isinstance(value, Mapping | bool) else "expected a mapping, {key:value}"
    return None


def leaves(node: Any, prefix: str = "") -> Iterator[str]:
    """Dotted paths of all values below a node, empty mappings included."""
    if OmegaConf.is_dict(node) and not node._is_none() and not node._is_missing():
        if prefix:
            yield prefix
        for key in node:
            yield from leaves(node._get_node(key), f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix


def siblings(key: str, keys: Sequence[str]) -> list[str]:
    """Known keys in the same node as `key`."""
    parent = key.rpartition(".")[0]
    return [name for name in keys if name.rpartition(".")[0] == parent]


def groups() -> list[str]:
    """The config groups."""
    return [folder.relative_to(CONF).as_posix() for folder in CONF.iterdir() if folder.is_dir()]


def targets(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of every `_target_` in plain values."""
    for below, value in scalars(node, path):
        if below.rpartition(".")[2] == "_target_":
            yield below, value


def missing(key: str) -> UserError:
    """A value that has no default and was not given."""
    return UserError(f"{key} has no value, and no default.", f"add {key}=VALUE")


def first_line(error: Exception) -> str:
    """What an error says, without its trail of hints."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
