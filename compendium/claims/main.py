"""`python compare.py`: from a command line to a verdict."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from compendium.claims.checks import FAILS, INCONCLUSIVE
from compendium.claims.claim import Claim, seeds
from compendium.errors import UserError, UserErrors, did_you_mean

EXIT = {"": 0, "holds": 0, FAILS: 1, INCONCLUSIVE: 3}
"""Verdict -> exit code; 2 is a mistake."""

SWITCHES = ("dry", "force", "trial", "debug", "search")
OPTIONS = (
    "claim",
    "seeds",
    "scale",
    "metric",
    "baseline",
    "checks",
    "curve",
    "launcher",
    "parallel",
    "threads",
    "record",
)
OWN = (*SWITCHES, *OPTIONS)
QUIET = ("runs", "logger")
"""Keys of train.py that change nothing in what is compared."""
HARMLESS = {"claim", "launcher", "parallel", "dry", "trial", "debug", "resume"}
"""Keys under which a stored claim is still the claim as it stands."""

USAGE = """python compare.py claim=ROOM/BIBKEY [seeds=...] [scale=paper] [KEY=VALUE ...]
python compare.py arms.NAME='KEY=VALUE ...' arms.OTHER='...' [data=...] [metric=test/...] [KEY=VALUE ...]

  seeds=5 | seeds=[100,101]       what is paired; stored claims name their own
  metric=test/nll,test/accuracy   figures of the table and the picture (all that the arms have in common)
  baseline=NAME                   the arm that the others are compared with (the last one)
  checks='["a.test/nll < b.test/nll"]'    statements to judge; exit codes 0 holds, 1 fails, 3 inconclusive, 2 error
  parallel=N  threads=1           runs at a time (as many as cores or devices allow), threads of each
  launcher=slurm launcher.time=60 launcher.partition=...     submits and returns; the same command again collects
  dry=true                        composes and validates every run, and starts none
  trial=false                     leaves out the trial of one batch per arm
  force=true                      compares runs although their evaluation protocols differ
  search=true                     tunes the arms instead: as many random trials for each, as the claim's search: states
  search.trials=8 search.metric=validate/nll search.space.optimizer.lr='log 0.001 1'         or as stated here
  resume=never                    sets finished runs aside and does them again
  anything else                   overrides of train.py, for all arms

Killed at any time, the same command does what is missing. `python -m compendium.jobs status` tells from any shell.
"""


@dataclass(frozen=True)
class Request:
    """A command line.

    Attributes:
        claim: what is compared.
        extra: overrides of all arms.
        quiet: overrides that say where and how runs are kept, and are no part of what is compared.
        arguments: as typed.
        launcher: `processes` or `slurm`, with its options.
        stored: whether the claim is one of the repository's, run as it stands: only then is its result recorded.
    """

    claim: Claim
    extra: tuple[str, ...]
    quiet: tuple[str, ...]
    arguments: tuple[str, ...]
    launcher: str = "processes"
    launcher_options: dict[str, Any] = field(default_factory=dict)
    switches: frozenset[str] = frozenset({"trial"})
    parallel: int | None = None
    threads: int = 1
    stored: bool = False

    @property
    def command(self) -> str:
        """By which anybody gets the result again."""
        if self.stored:
            return f"python compare.py claim={self.claim.name}"
        return shlex.join(["python", "compare.py", *self.arguments])


def request(arguments: Sequence[str]) -> Request:
    """What a command line asks for.

    Raises:
        UserErrors: everything that is wrong with it.
    """
    given: dict[str, str] = {}
    arms: dict[str, str] = {}
    searched: dict[str, str] = {}
    options: list[str] = []
    extra: list[str] = []
    quiet: list[str] = []
    errors: list[UserError] = []
    for argument in arguments:
        key, sign, value = argument.partition("=")
        if not sign or key.startswith("-"):
            errors.append(UserError(f"'{argument}' is not understood.", "python compare.py --help"))
        elif key in OWN:
            given[key] = value
        elif key.startswith("arms."):
            arms[key.removeprefix("arms.")] = value
        elif key.startswith("search."):
            searched[key.removeprefix("search.")] = value
        elif key.startswith("launcher."):
            options.append(f"hydra.{argument}")
        elif key == "resume":
            errors += (
                [] if value in ("auto", "never") else [UserError(f"{argument} belongs to one run.", "resume=never")]
            )
            given[key] = value
        else:
            (quiet if key in QUIET else extra).append(argument)
    if errors:
        raise UserErrors(errors)
    switches = {"trial"}
    for key in SWITCHES:
        if given.get(key, "false") not in ("true", "false"):
            raise UserError(f"{key}={given[key]}: expected true or false.")
        if key in given:
            switches = switches | {key} if given[key] == "true" else switches - {key}
    if given.get("resume") == "never":
        switches = switches | {"afresh"}
    if "claim" in given:
        claim = stored(given, arms)
    else:  # what all arms share; each arm's own words win
        claim, extra = replace(adhoc(given, arms), base=shlex.join(extra)), []
    changed = {key: value for key, value in changes(given).items() if value}
    if searched:
        changed["search"] = search_of(searched, claim)
        switches = switches | {"search"}
    if changed:
        written = {name: getattr(claim, name) for name in Claim.__dataclass_fields__ if name not in ("name", "scaled")}
        claim = Claim.of(written | changed, claim.name, "the command line", claim.scaled)
    launcher, launcher_options = where(given.get("launcher", "processes"), options)
    as_it_stands = "claim" in given and set(given) <= HARMLESS and not arms and not extra
    return Request(
        claim,
        tuple(extra),
        tuple(quiet),
        tuple(arguments),
        launcher,
        launcher_options,
        frozenset(switches),
        whole("parallel", given),
        whole("threads", given) or 1,
        as_it_stands,
    )


def stored(given: dict[str, str], arms: dict[str, str]) -> Claim:
    """A claim of the repository, with more arms where some are given."""
    claim = Claim.stored(given["claim"], given.get("scale", ""))
    twice = set(arms) & set(claim.arms)
    if twice:
        raise UserError(f"arms.{min(twice)}: the claim has an arm of that name.", "give yours another name")
    return replace(claim, arms={**claim.arms, **arms}, baseline=claim.compared_with)


def adhoc(given: dict[str, str], arms: dict[str, str]) -> Claim:
    """A comparison of one's own."""
    if "scale" in given:
        raise UserError("scale= belongs to a stored claim.", "claim=ROOM/BIBKEY")
    if len(arms) < 2:
        what = "there is nothing to compare." if not arms else "one arm alone is no comparison."
        raise UserError(what, "arms.a='model=...' arms.b='model=...', or claim=ROOM/BIBKEY; --help shows both")
    return Claim.of({"arms": arms}, "comparison", "the command line")


def changes(given: dict[str, str]) -> dict[str, Any]:
    """Fields of a claim that the command line sets."""
    import yaml

    found: dict[str, Any] = {}
    if "seeds" in given:
        found["seeds"] = seeds(given["seeds"])
    if "metric" in given:
        found["show"] = [one.strip() for one in given["metric"].strip("[]").split(",") if one.strip()]
    for key in ("baseline", "curve"):
        found[key] = given.get(key, "")
    if "checks" in given:
        written = yaml.safe_load(given["checks"])
        found["checks"] = written if isinstance(written, list) else [written]
    return found


def search_of(searched: dict[str, str], claim: Claim) -> dict[str, Any]:
    """A claim's search with what the command line says: `space.KEY=LAW`, `arms.ARM.KEY=LAW`, and plain keys."""
    import yaml

    found: dict[str, Any] = dict(claim.search)
    for key, value in searched.items():
        group, _, rest = key.partition(".")
        if group == "space" and rest:
            found["space"] = {**found.get("space", {}), rest: value}
        elif group == "arms" and "." in rest:
            arm, _, name = rest.partition(".")
            own = found.get("arms", {})
            found["arms"] = {**own, arm: {**own.get(arm, {}), name: value}}
        else:
            found[key] = yaml.safe_load(value)
    return found


def whole(key: str, given: dict[str, str]) -> int | None:
    """A whole number of the command line."""
    if key not in given:
        return None
    if not given[key].isdigit():
        raise UserError(f"{key}={given[key]}: expected a whole number.")
    return int(given[key])


def where(name: str, options: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The launcher and its options.

    Raises:
        UserErrors: no such launcher, no such option.
    """
    if name == "processes":
        if options:
            key = options[0].removeprefix("hydra.").partition("=")[0]
            raise UserError(
                f"{key} is an option of launcher=slurm.", "parallel= and threads= are those of this machine"
            )
        return name, {}
    if name != "slurm":
        raise UserError(f"launcher={name}: there is no such launcher.", did_you_mean(name, ("processes", "slurm")))
    from compendium.compose import parse
    from compendium.sweep import launcher_config

    own, errors = parse([f"hydra/launcher={name}", *options])
    config, wrong = launcher_config(own) if not errors else (None, [])
    if errors or wrong:
        raise UserErrors([*errors, *wrong])
    from omegaconf import OmegaConf

    plain = OmegaConf.to_container(config)
    assert isinstance(plain, dict)
    return name, {str(key): value for key, value in plain.items() if key != "_target_"}


def run(arguments: Sequence[str]) -> int:
    """Do what a command line asks for.

    Returns:
        Exit code: 0 holds (or no checks, or submitted), 1 fails, 3 inconclusive, 128 + N stopped by signal N.

    Raises:
        UserError: a mistake.
    """
    from compendium.claims.plan import plan
    from compendium.run import short

    asked = request(arguments)
    if "search" in asked.switches:
        return tune(asked)
    planned = plan(asked.claim, asked.extra, asked.quiet)
    if "dry" in asked.switches:
        return dry(planned)
    print(f"{asked.claim.name}: {len(planned.jobs)} runs of {len(planned.points)} arms, {short(planned.folder)}")
    if asked.claim.statement:
        print(f"  {asked.claim.statement}")
    return do(asked, planned)


def tune(asked: Request) -> int:
    """Search for the best values of every arm, see `compendium.claims.search`."""
    from compendium.claims import search, work
    from compendium.interruption import interruption
    from compendium.pool import shares

    if asked.launcher != "processes":
        raise UserError("search=true runs as processes.", "leave out launcher=")

    def done(planned: Any) -> bool:
        ledger = work.ledger_of(planned, asked.launcher, asked.command, asked.arguments)
        work.here(planned, ledger, shares(asked.parallel, asked.threads, devices_of(planned)))
        return interruption.signum is None

    return search.run(asked.claim, asked.extra, asked.quiet, done, dry if "dry" in asked.switches else None)


def do(asked: Request, planned: Any) -> int:
    """Run what is missing, and judge."""
    from compendium.claims import work
    from compendium.claims.evidence import Runs
    from compendium.interruption import interruption
    from compendium.pool import shares

    if "afresh" in asked.switches:
        for job in planned.all:
            job.run.set_aside()
    ledger = work.ledger_of(planned, asked.launcher, asked.command, asked.arguments)
    runs = Runs(planned)
    if not runs.complete:
        # The parallel runs of SLURM are not on this machine; its trials are.
        pool = shares(asked.parallel, asked.threads, devices_of(planned) if asked.launcher == "processes" else 0)
        if "trial" in asked.switches:
            work.trial(planned, pool, runs)
        if interruption.signum is None and asked.launcher == "slurm":
            submitted = work.on_slurm(planned, ledger, asked.launcher_options)
            name = ledger.name
            print(f"{submitted} jobs submitted; python -m compendium.jobs status|logs|cancel|collect {name}")
            return 0
        if interruption.signum is None:
            work.here(planned, ledger, pool)
    else:
        ledger.write()
    if interruption.signum is not None:
        print("stopped; the same command does what is missing")
        return 128 + interruption.signum
    return judge(asked, planned)


def devices_of(planned: Any) -> int:
    """Devices that each run uses; 0 for runs on the CPU."""
    from compendium.pool import devices

    trainers = [job.run.config["trainer"] for job in planned.all]
    if all(one["accelerator"] == "cpu" for one in trainers) or not devices():
        return 0
    return max(one["devices"] if isinstance(one["devices"], int) else len(devices()) for one in trainers)


def judge(asked: Request, planned: Any) -> int:
    """From the finished runs to table, picture, result file and verdict.

    Returns:
        The verdict's exit code.
    """
    from compendium.claims.evidence import Runs
    from compendium.claims.picture import draw
    from compendium.claims.record import record, stored_path
    from compendium.claims.table import markdown, show
    from compendium.run import make_folder, replacing, short, write_json

    runs = Runs(planned)
    if "force" not in asked.switches:
        runs.comparable()
    versions = runs.codes()
    if len(versions) > 1:
        print(f"warning: these runs were made by {len(versions)} versions of the code; resume=never does them again")
    result = record(planned, runs, asked.command)
    make_folder(planned.folder)
    write_json(planned.folder / "result.json", result)
    draw(result, planned.folder / "comparison.png")
    with replacing(planned.folder / "table.md") as temporary:
        temporary.write_text(markdown(result))
    show(result)
    print(f"folder   {short(planned.folder)}\npicture  {short(planned.folder / 'comparison.png')}")
    if asked.stored and runs.complete and not asked.claim.scaled:
        path = stored_path(asked.claim.name)
        make_folder(path.parent)
        write_json(path, result)
        print(f"recorded {short(path)}")
    if not runs.complete:
        return EXIT[result["verdict"] if result["verdict"] == FAILS else INCONCLUSIVE]
    return EXIT[result["verdict"]]


def collect(arguments: Sequence[str]) -> int:
    """Judge a comparison from what its runs have left by now, from any shell.

    Returns:
        As `run`; nothing is started.
    """
    from compendium.claims.evidence import Runs
    from compendium.claims.plan import plan

    asked = request(arguments)
    planned = plan(asked.claim, asked.extra, asked.quiet)
    runs = Runs(planned)
    if not runs.complete:
        left = [f"{name} seed {seed}" for (name, seed), result in runs.results.items() if result is None]
        more = " ..." if len(left) > 6 else ""
        print(f"{len(left)} of {len(planned.jobs)} runs are not done: {', '.join(left[:6])}{more}")
    return judge(asked, planned)


def dry(planned: Any) -> int:
    """Compose and validate every run, as `train.py dry=true` does each; start none.

    Returns:
        0.

    Raises:
        UserErrors: all mistakes, each with its arm.
    """
    from compendium.dry import check
    from compendium.run import short

    errors: list[UserError] = []
    seed = planned.claim.seeds[0]
    checked = {name: planned.stages[name, seed] for name in planned.claim.stages}
    checked |= {name: planned.jobs[name, seed] for name in planned.points}
    for name, job in checked.items():
        errors += [UserError(f"{name}: {error.what}", error.mend) for error in check(job.run)]
    if errors:
        raise UserErrors(errors)
    for (name, number), job in (*planned.stages.items(), *planned.jobs.items()):
        print(f"{name} seed {number}: {short(job.run.folder)} ({job.run.status['state']})")
    print(f"{len(planned.all)} runs, all valid; {len(planned.claim.parsed)} checks; nothing was started")
    return 0


def listing() -> str:
    """The stored claims, by room, with a line each and what is recorded."""
    from compendium.claims.record import stored_path
    from compendium.config import choices, summary
    from compendium.run import read_json

    lines = [USAGE, "claim="]
    for name, path in choices("claim").items():
        recorded = stored_path(name)
        verdict = read_json(recorded).get("verdict", "") if recorded.is_file() else "no result"
        lines.append(f"  {name:<38} {verdict:<13} {summary(Path(path))[0]}")
    return "\n".join(lines)
