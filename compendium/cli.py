"""The command line of train.py: help, checks, and the hand-over to the run."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from compendium.config import choices, summary
from compendium.errors import UserError
from compendium.interruption import tasks_per_node

HYDRA_FLAGS = (
    "-m",
    "--multirun",
    "-sc",
    "--shell-completion",
    "-c",
    "--cfg",
    "-p",
    "--package",
    "-i",
    "--info",
    "--hydra-help",
    "--version",
    "-r",
    "--resolve",
    "-cn",
    "-cp",
    "-cd",
    "--config-name",
    "--config-path",
    "--config-dir",
)

USAGE = """python train.py [model=...] [data=...] [KEY=VALUE ...]

  run=fit|test|validate|predict   seed=N   resume=auto|never|PATH   ckpt=last|best|PATH   dry=true   debug=true
  -m KEY=A,B                      a sweep; hydra/launcher=processes (here) or slurm (submits and returns)
  --cfg job                       the composed config;  --frozen FOLDER  a frozen one
  eval "$(python train.py -sc install=bash)"   completion (zsh, fish)

Own data in one command:
  python train.py model=supervised/classifier data=table.csv data.target=COLUMN
  python train.py model=supervised/classifier data=folder/of/images
"""


def wants_help(arguments: Sequence[str]) -> bool:
    return any(argument in ("-h", "--help") for argument in arguments)


def wants_hydra(arguments: Sequence[str]) -> bool:
    """Whether Hydra itself has to run: sweeps, completion, printing the config."""
    return any(argument.split("=")[0] in HYDRA_FLAGS for argument in arguments)


def completion(arguments: Sequence[str]) -> str | None:
    """The choices that a begun `GROUP=...` may become, rooms included; None where Hydra has the answer."""
    shell = next((argument.partition("=")[2] for argument in arguments if argument.startswith("query=")), "")
    group, sign, begun = os.environ.get("COMP_LINE", "").rpartition(" ")[2].partition("=")
    if not shell or not sign or not choices(group):
        return None
    offered = [f"{group}={name}" for name in choices(group) if name.startswith(begun)]
    return ("\n" if shell == "fish" else " ").join(offered)


def help_screen() -> str:
    """Usage, then models and data by room with a line each, then the choices of the other groups."""
    lines = [USAGE]
    for group in ("model", "data"):
        for room, members in groupby(choices(group), key=lambda name: name.rpartition("/")[0]):
            lines.append(f"{group}= {room}".rstrip())
            for name in members:
                text, tags = summary(choices(group)[name])
                lines.append(f"  {name:<36} {text}" + (f" [{' '.join(sorted(tags))}]" if tags else ""))
            lines.append("")
    for group in ("datamodule", "net", "optimizer", "schedule", "callbacks", "trainer", "logger", "experiment"):
        names = [name for name in choices(group) if "/" not in name]
        lines.append(f"{group + '=':<12} {' '.join(names)}")
    return "\n".join(lines)


def frozen(arguments: Sequence[str]) -> str | None:
    """The folder of a run that was composed elsewhere."""
    if arguments[:1] != ["--frozen"]:
        return None
    if len(arguments) != 2:
        raise UserError("--frozen takes one run folder, and nothing else.")
    return arguments[1]


# Under srun all processes start with the same command line. The first composes; the others wait for its folder.

RENDEZVOUS_SECONDS = 300


def rendezvous(arguments: Sequence[str]) -> Path | None:
    """Where the first process of an srun step leaves the run's folder for the others; None outside of srun."""
    if int(os.environ.get("SLURM_NTASKS", "1")) < 2 or "SLURM_STEP_ID" not in os.environ:
        return None
    os.environ.setdefault("SLURM_NTASKS_PER_NODE", tasks_per_node())  # trainer=slurm reads it; `srun -n` leaves it out
    runs = next((argument.partition("=")[2] for argument in arguments if argument.startswith("runs=")), "runs")
    step = [os.environ.get(f"SLURM_{name}", "0") for name in ("JOB_ID", "STEP_ID", "RESTART_COUNT")]
    return Path(runs).expanduser().absolute() / ".srun" / ".".join(step)


def wait_for_folder(path: Path) -> str:
    """The run's folder, once the first process has composed it.

    Raises:
        UserError: it never came.
    """
    end = time.monotonic() + RENDEZVOUS_SECONDS
    while time.monotonic() < end:
        if path.is_file():
            folder = path.read_text()
            if not folder:
                raise SystemExit(2)  # the first process has said why
            return folder
        time.sleep(0.1)
    raise UserError(
        f"no word from the first process of this srun step within {RENDEZVOUS_SECONDS} s ({path}).",
        "Look at its output; runs= must lie on a file system that all nodes see.",
    )


def tell(path: Path | None, folder: str) -> None:
    """Leave the run's folder for the other processes; nothing, where it could not be composed."""
    from compendium.run import make_folder, replacing

    if path is not None:
        make_folder(path.parent)
        with replacing(path) as temporary:
            temporary.write_text(folder)


def slurm_rank() -> int:
    """This process's number in its srun step."""
    return int(os.environ.get("SLURM_PROCID", "0"))
