"""What is compared: a claim stored in `conf/claim/<room>/<bibkey>.yaml`, or arms named on the command line."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from compendium.claims.checks import Check, parse
from compendium.config import CONF, choices
from compendium.errors import UserError, UserErrors, did_you_mean

FOLDER = CONF / "claim"
NAME = re.compile(r"[a-z][a-z0-9_]*")
STAGE = re.compile(r"(?<!\$)\{(\w+)\}")
"""`{name}`: the checkpoint of a stage; `${name}` is an interpolation of the config."""
TEXT = ("statement", "tuning")
PROTOCOL = ("split", "selection", "evaluations", "metrics")
"""What the runs of a comparison must have in common, see `compendium.protocol`."""


@dataclass(frozen=True)
class Claim:
    """A comparison: arms x seeds, and what is said of them.

    Attributes:
        name: `<room>/<bibkey>` of a stored claim; `comparison` for one from the command line.
        paper: key of docs/papers.bib.
        statement: the paper's claim in a sentence.
        base: overrides that all arms share.
        stages: name -> overrides of a run that arms start from; `{name}` in an arm's overrides is its checkpoint.
        arms: name -> overrides; a list of values, `KEY=1,2,4`, makes a swept arm.
        baseline: the arm that the table compares with.
        seeds: what is reported.
        checks: statements, see `compendium.claims.checks`.
        show: figures of the table and of the picture; those of the checks, where none are named.
        curve: logged figure that the picture draws against steps.
        differ: parts of the evaluation protocol in which the arms may differ, with the reason in `deviations`.
        deviations: how this differs from the paper's own experiment.
        tuning: what was tuned, how, and on which seeds.
        search: how the arms were tuned, see `compendium.claims.search`; `search=true` does it again.
        scale: name -> the fields that it replaces; `paper` is the paper's own data and network.
        scaled: the scale that is in force, if any.
    """

    name: str
    arms: Mapping[str, str]
    paper: str = ""
    statement: str = ""
    base: str = ""
    stages: Mapping[str, str] = field(default_factory=dict)
    baseline: str = ""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    checks: tuple[Any, ...] = ()
    show: tuple[str, ...] = ()
    curve: str = ""
    differ: tuple[str, ...] = ()
    deviations: tuple[str, ...] = ()
    tuning: str = ""
    search: Mapping[str, Any] = field(default_factory=dict)
    scale: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    scaled: str = ""

    @classmethod
    def stored(cls, name: str, scale: str = "") -> Claim:
        """The claim of a name, `<room>/<bibkey>` or the key alone.

        Raises:
            UserErrors: there is none, or everything that is wrong with it.
        """
        known = choices("claim")
        found = [one for one in known if name in (one, one.rpartition("/")[2])]
        if len(found) != 1:
            raise UserError(f"claim={name}: there is no such claim.", did_you_mean(name, known) or "see conf/claim/")
        return cls.read(known[found[0]], found[0], scale)

    @classmethod
    def read(cls, path: Path, name: str, scale: str = "") -> Claim:
        """The claim of a file.

        Raises:
            UserErrors: everything that is wrong with it.
        """
        where = f"conf/claim/{name}.yaml"
        try:
            written = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise UserError(f"{where} is no YAML: {str(error).splitlines()[0]}") from None
        if not isinstance(written, dict):
            raise UserError(f"{where} holds no claim.", "python -m compendium.new_method writes one to fill")
        scales = written.get("scale") or {}
        if scale:
            if scale not in scales:
                raise UserError(f"scale={scale}: {where} has no such scale.", did_you_mean(scale, scales))
            written = written | dict(scales[scale])
        return cls.of(written, name, where, scale)

    @classmethod
    def of(cls, written: Mapping[str, Any], name: str, where: str, scale: str = "") -> Claim:
        """A claim from plain values.

        Raises:
            UserErrors: everything that is wrong with them.
        """
        names = {one.name for one in fields(cls)} - {"name", "scaled"}
        unknown = [key for key in written if key not in names]
        if unknown:
            raise UserErrors(
                [UserError(f"{where}: there is no key '{key}'.", did_you_mean(key, names)) for key in unknown]
            )
        plain = {key: value for key, value in written.items() if value is not None}
        plain |= {key: tuple(plain[key]) for key in ("checks", "show", "differ", "deviations") if key in plain}
        plain |= {key: " ".join(str(plain[key]).split()) for key in TEXT if key in plain}
        if "seeds" in plain:
            plain["seeds"] = seeds(plain["seeds"])
        claim = cls(name=name, scaled=scale, **plain)
        if errors := list(claim.mistakes(where)):
            raise UserErrors(errors)
        return claim

    def mistakes(self, where: str) -> list[UserError]:
        """Everything that is wrong with it, as far as its own text tells."""
        errors: list[UserError] = []
        if not self.arms:
            errors.append(UserError(f"{where} names no arms.", "arms.NAME='model=... optimizer=...'"))
        odd = [name for name in (*self.arms, *self.stages) if not NAME.fullmatch(name)]
        errors += [
            UserError(f"{where}: '{name}' is no name of an arm.", "lower-case words joined by _") for name in odd
        ]
        if self.baseline and self.baseline not in self.arms:
            mend = did_you_mean(self.baseline, self.arms)
            errors.append(UserError(f"{where}: the baseline '{self.baseline}' is no arm.", mend))
        for name, text in (*self.arms.items(), *self.stages.items(), ("base", self.base)):
            for stage in STAGE.findall(text):
                if stage not in self.stages:
                    mend = did_you_mean(stage, self.stages)
                    errors.append(UserError(f"{where}: {name} starts from '{stage}', which is no stage.", mend))
            if any(part.partition("=")[0] == "seed" for part in shlex.split(text)):
                errors.append(UserError(f"{where}: {name} sets seed=, and seeds are the comparison's.", "seeds=[0,1]"))
        unknown = [key for key in self.differ if key not in PROTOCOL]
        errors += [
            UserError(f"{where}: differ: '{key}' is no part of the protocol.", ", ".join(PROTOCOL)) for key in unknown
        ]
        try:
            checks = self.parsed
        except UserError as error:
            return [*errors, UserError(f"{where}: {error.what}", error.mend)]
        for check in checks:
            for reference in (*check.references, *check.curves):
                if reference.arm not in self.arms:
                    mend = did_you_mean(reference.arm, self.arms)
                    errors.append(
                        UserError(f"{where}: the check '{check.text}': there is no arm '{reference.arm}'.", mend)
                    )
        return errors

    @cached_property
    def parsed(self) -> tuple[Check, ...]:
        """The checks."""
        return tuple(parse(check) for check in self.checks)

    @property
    def room(self) -> str:
        return self.name.rpartition("/")[0]

    @property
    def compared_with(self) -> str:
        """The arm that the table compares with: the last one, where none is named."""
        return self.baseline or list(self.arms)[-1]

    @property
    def figures(self) -> list[str]:
        """The figures of table and picture."""
        named = [reference.figure for check in self.parsed for reference in check.references]
        return list(dict.fromkeys(self.show or named))


def seeds(written: Any) -> tuple[int, ...]:
    """`5` -> 0 to 4; `[100,101]` -> those.

    Raises:
        UserError: neither, or a seed twice.
    """
    mend = "seeds=5 for 0 to 4, or seeds=[100,101,102]"
    if isinstance(written, str):
        try:
            written = yaml.safe_load(written)
        except yaml.YAMLError:
            raise UserError(f"seeds={written} is no number and no list.", mend) from None
    if isinstance(written, int) and not isinstance(written, bool) and written > 0:
        return tuple(range(written))
    whole = isinstance(written, Sequence) and all(type(one) is int and one >= 0 for one in written)
    if not whole or not written:
        raise UserError(f"seeds={written} is no number and no list of whole numbers.", mend)
    if len(set(written)) != len(written):
        raise UserError(f"seeds={list(written)} names a seed twice.", mend)
    return tuple(written)
