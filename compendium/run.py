"""A run on disk: one folder, one frozen config, one status, one result.

The folder is a function of the resolved config and the seed, so that the same command finds what it began. Nothing in
it is ever half-written: files are written to a temporary name and renamed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compendium.config import CONF
from compendium.errors import UserError

if TYPE_CHECKING:
    from compendium.compose import Composed

VOLATILE = ("run", "resume", "ckpt", "runs", "dry", "debug", "logger", "experiment", "command")
"""Keys that say how a run is made or watched, not what comes out of it."""
VOLATILE_TRAINER = ("enable_progress_bar", "enable_model_summary", "profiler")

STATES = ("pending", "running", "done", "failed", "preempted")


@dataclass(frozen=True)
class Run:
    """One run: its resolved config and its folder.

    Attributes:
        config: plain values, `choices` included.
        folder: where everything about it lies.
    """

    config: dict[str, Any]
    folder: Path

    @classmethod
    def plan(cls, composed: Composed) -> Run:
        """The run that a composed config describes; nothing is written yet."""
        config = composed.values | {"choices": composed.choices}
        model, data = composed.choices["model"], composed.choices["data"]
        name = f"{identity(config)}-s{config['seed']}"
        return cls(config, Path(str(config["runs"])).expanduser().absolute() / model / data.replace("/", "-") / name)

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """The run that was frozen into a folder, or into a file of one.

        Raises:
            UserError: the folder holds no run.
        """
        path = Path(path).absolute()
        file = path if path.suffix == ".json" else path / "config.json"
        return cls(read_json(file), file.parent)

    @property
    def trains(self) -> bool:
        """Whether this is the run itself, and not a later look at its weights."""
        return self.config["run"] == "fit"

    @property
    def frozen(self) -> Path:
        """The file that every process starts from; a later test or prediction has one of its own."""
        return self.folder / ("config.json" if self.trains else f"config-{self.config['run']}.json")

    def freeze(self) -> None:
        """Write the config that every process of the run starts from."""
        make_folder(self.folder)
        write_json(self.frozen, self.config)

    @property
    def title(self) -> str:
        """model/data/seed, as a person would call the run."""
        chosen = self.config["choices"]
        return f"{chosen['model']} on {chosen['data']}, seed {self.config['seed']}"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def result(self) -> dict[str, Any] | None:
        """The figures of a finished run; None before that."""
        path = self.folder / "result.json"
        return read_json(path) if path.is_file() else None

    @property
    def status(self) -> dict[str, Any]:
        """{"state": one of STATES, ...}; `pending` where nothing was written yet."""
        path = self.folder / "status.json"
        return read_json(path) if path.is_file() else {"state": "pending"}

    def mark(self, state: str, **more: Any) -> None:
        """Write down what the run is doing now. A later look at its weights leaves no mark."""
        if not self.trains:
            return
        known = {key: value for key, value in self.status.items() if key in ("job", "attempts")}
        if state == "running":
            known["attempts"] = known.get("attempts", 0) + 1
        where = {"host": socket.gethostname(), "pid": os.getpid(), "time": time.time()}
        write_json(self.folder / "status.json", known | where | {"state": state} | more)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Own the folder.

        Raises:
            UserError: another process of this machine is at the same run.
        """
        make_folder(self.folder)
        with open(self.folder / "lock", "w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"{short(self.folder)} is being worked on by another process.",
                    "Wait for it, or take another seed=; the same command tells when it is done.",
                ) from None
            except OSError:  # a file system without locks: SLURM's job ids keep runs apart there
                pass
            yield

    @property
    def begun(self) -> bool:
        """Whether there is anything in the folder that a person could miss."""
        return self.checkpoints.exists() or (self.folder / "metrics.jsonl").exists()

    def forget(self) -> None:
        """Remove the folder, and the folders above it that it leaves empty."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            for parent in itertools.islice(self.folder.parents, 4):
                parent.rmdir()

    def afresh(self) -> Run:
        """This run with `resume=never` carried out: what was there is set aside, and a new start is continued."""
        if self.config["resume"] != "never" or not self.trains:
            return self
        self.set_aside()
        return Run(self.config | {"resume": "auto"}, self.folder)

    def set_aside(self) -> None:
        """Make room for a fresh start and lose nothing: what is there moves to `NAME.old-1`, `.old-2`, ..."""
        if not self.folder.exists():
            return
        number = 1
        while (aside := self.folder.with_name(f"{self.folder.name}.old-{number}")).exists():
            number += 1
        self.folder.rename(aside)


def identity(config: Mapping[str, Any]) -> str:
    """Eight hex digits from everything in a config that can change the outcome, but the seed.

    Of the default evaluations only those count whose settings were changed: a new one looks at every run, and must not
    make a new run of each.
    """
    kept = {key: value for key, value in config.items() if key not in (*VOLATILE, "seed", "choices")}
    evaluations = config["callbacks"]["evaluation"]
    if config["choices"].get("callbacks/evaluation") == "all" and evaluations is not None:
        changed = {name: node for name, node in evaluations.items() if node != default_evaluation(name)}
        kept["callbacks"] = config["callbacks"] | {"evaluation": {"all but": changed}}
    kept["trainer"] = {key: value for key, value in config["trainer"].items() if key not in VOLATILE_TRAINER}
    kept["datamodule"] = {key: value for key, value in config["datamodule"].items() if key != "seed"}
    text = json.dumps(kept, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@cache
def default_evaluation(name: str) -> Any:
    """What the file of an evaluation says; None where there is no such file."""
    from omegaconf import OmegaConf

    path = CONF / "callbacks/evaluation" / f"{name}.yaml"
    return OmegaConf.to_container(OmegaConf.load(path)) if path.is_file() else None


def make_folder(folder: Path) -> None:
    """Create a folder.

    Raises:
        UserError: it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot create {folder}: {error.strerror}.", "choose another place with runs=FOLDER") from None


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well, and is removed when it does not.

    Raises:
        UserError: the disk is full or the folder cannot be written to.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(
            f"cannot write {short(path)}: {error.strerror or error}.",
            "Make room or choose another place with runs=FOLDER; the same command continues.",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write plain values; whoever reads sees the old file or the new one, never a part."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, default=str) + "\n")


def read_json(path: Path) -> Any:
    """Read plain values.

    Raises:
        UserError: no such file, or it is no JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"there is no {short(path)}.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{short(path)} is corrupt: {error}.", "Remove it and run the same command again.") from None


def read_log(path: Path) -> list[dict[str, float]]:
    """The lines of a metrics.jsonl; a last line that was cut short by a kill is left out."""
    lines = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines


def short(path: Path) -> str:
    """A path as a person would type it from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
