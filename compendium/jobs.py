"""Runs and sweeps from any other shell: what they are at, what they print, how to stop them, what came out.

    python -m compendium.jobs status  [RUN ...]
    python -m compendium.jobs logs    [RUN ...] [--lines N]
    python -m compendium.jobs cancel   RUN ...
    python -m compendium.jobs collect [RUN ...] [--csv FILE]

A RUN is a run folder, the name of a sweep, a SLURM job id, or any part of `model/data/hash-sSEED`. Everything is read
from the run folders; SLURM is asked with squeue alone, so that a cluster without accounting will do.
"""

from __future__ import annotations

import argparse
import csv
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from compendium.errors import UserError, report
from compendium.run import VOLATILE, Run, short
from compendium.sweep import ledgers

ACTIVE = ("queued", "running")


class Cluster:
    """What SLURM has in its queue; asked once, and only where somebody wants to know."""

    @cached_property
    def queue(self) -> dict[str, tuple[str, str]] | None:
        """Job id (array tasks as `12_0`) -> (SLURM's state, its reason); None where no SLURM answers."""
        command = ["squeue", "--noheader", "--array", "--format=%i|%T|%r"]
        try:
            shown = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        except (OSError, subprocess.TimeoutExpired):
            return None
        if shown.returncode:
            return None
        lines = [line.split("|") for line in shown.stdout.splitlines()]
        return {job: (state, reason) for job, state, reason in lines}


@dataclass(frozen=True)
class Row:
    """Where a run stands.

    Attributes:
        run: whose row it is.
        state: one of `compendium.run.STATES`, `queued` (SLURM has it), or `lost` (it was killed without a word).
        reason: why it failed, stopped or waits.
        attempts: how often it was started.
        seconds: how long it took, or has been running; None where it does neither.
        job: SLURM's id.
    """

    run: Run
    state: str
    reason: str
    attempts: int
    seconds: float | None
    job: str | None

    @classmethod
    def of(cls, folder: Path, submitted: str | None, cluster: Cluster) -> Row:
        """The row of a run folder.

        Args:
            folder: where the run lies; there need be nothing yet.
            submitted: the SLURM job that a sweep's ledger names for it.
            cluster: whom to ask about jobs.
        """
        run = Run({}, folder) if not (folder / "config.json").is_file() else Run.open(folder)
        status = run.status
        jobs = [job for job in dict.fromkeys((status.get("job"), submitted)) if job]
        state, reason, job = standing(status, jobs, cluster)
        seconds = None
        if state == "done" and run.result is not None:
            seconds = run.result["seconds"]
        elif state == "running" and status["state"] == "running":
            seconds = time.time() - status["time"]
        return cls(run, state, reason, status.get("attempts", 0), seconds, job)

    @property
    def name(self) -> str:
        """model/data/hash-sSEED."""
        chosen = self.run.config["choices"]
        return f"{chosen['model']}/{chosen['data'].replace('/', '-')}/{self.run.folder.name}"


def standing(status: Mapping[str, Any], jobs: Sequence[str], cluster: Cluster) -> tuple[str, str, str | None]:
    """State, reason and SLURM job, from what the run wrote down and what the queue shows."""
    state = status["state"]
    reason = status.get("reason") or (f"stopped by {status['signal']}" if "signal" in status else "")
    known = jobs[-1] if jobs else None
    if state == "done":
        return state, "", known
    queue = cluster.queue if jobs else None
    for job in jobs:
        slurm, why = (queue or {}).get(job, (None, ""))
        if slurm == "PENDING":
            return "queued", " ".join(filter(None, [why, reason and f"({reason})"])), job
        if slurm in ("RUNNING", "CONFIGURING", "SUSPENDED"):
            return "running", "" if slurm == "RUNNING" else slurm.lower(), job
    for job in jobs:
        if (queue or {}).get(job, (None,))[0] == "COMPLETING":
            # Cancelled before it has said its last word, a process may live, and write, for all of SLURM's KillWait.
            ended = status.get("job") == job and (state == "failed" or "signal" in status)
            return (state, reason, job) if ended else ("running", "completing", job)
    if state == "running" and status.get("job"):
        return (state, "", known) if queue is None else ("lost", f"SLURM job {status['job']} is gone", known)
    if state == "running" and not alive(status):
        return "lost", f"process {status['pid']} is gone", None
    if state == "running":
        return state, "" if is_here(status) else f"on {status['host']}", None
    if state == "pending" and jobs and queue is not None:
        return "lost", f"SLURM job {known} is gone", known
    return state, reason, known


def is_here(status: Mapping[str, Any]) -> bool:
    return status["host"] == socket.gethostname()


def alive(status: Mapping[str, Any]) -> bool:
    """Whether the process that wrote a status still runs; one on another machine is believed to."""
    if not is_here(status):
        return True
    try:
        os.kill(status["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    began = process_start(status["pid"])
    return began is None or began <= status["time"] + 1  # else the number was given to another process since


def process_start(pid: int) -> float | None:
    """When a process began, in seconds since the epoch; None where the system does not tell."""
    try:
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, IndexError, ValueError):
        return None
    return time.time() - uptime + ticks / os.sysconf("SC_CLK_TCK")


def rows(runs: Path, wanted: Sequence[str]) -> list[Row]:
    """The rows of the runs that are asked for; all, where none is.

    Raises:
        UserError: there is no such run.
    """
    sweeps = ledgers(runs)
    submitted = {folder: entry["job"] for sweep in sweeps for folder, entry in sweep.jobs.items() if "job" in entry}
    cluster = Cluster()
    found = [Row.of(folder, submitted.get(str(folder)), cluster) for folder in folders(runs)]
    if not wanted:
        return found
    chosen: dict[Path, Row] = {}
    for word in wanted:
        members = {folder for sweep in sweeps if word in (sweep.name, str(sweep.path)) for folder in sweep.jobs}
        path = Path(word).expanduser().absolute()
        hits = [
            row
            for row in found
            if str(row.run.folder) in members
            or path in (row.run.folder, *row.run.folder.parents)
            or (row.job or "").split("_")[0] == word
            or row.job == word
            or (word in row.name and not members)
        ]
        if not hits:
            what = f"there is no run, sweep or job '{word}' in {short(runs)}."
            raise UserError(what, "python -m compendium.jobs status")
        chosen |= {row.run.folder: row for row in hits}
    return list(chosen.values())


def folders(runs: Path) -> Iterator[Path]:
    """The run folders below a folder; those that were set aside are left out."""
    for path in sorted(runs.rglob("config.json")):
        if ".old-" not in path.parent.name and path.parent.name.rpartition("-s")[2].isdigit():
            yield path.parent


def show_status(found: Sequence[Row], runs: Path) -> None:
    """A table of runs, and a line per sweep."""
    lines = [["run", "state", "job", "attempts", "seconds", "reason"]]
    for row in found:
        seconds = "" if row.seconds is None else f"{row.seconds:.0f}"
        lines.append([row.name, row.state, row.job or "", str(row.attempts), seconds, first_line(row.reason)])
    table(lines)
    states = {str(row.run.folder): row.state for row in found}
    for sweep in ledgers(runs):
        here = [states[folder] for folder in sweep.jobs if folder in states]
        if here:
            counts = ", ".join(f"{here.count(state)} {state}" for state in dict.fromkeys(here))
            print(f"sweep {sweep.name} ({sweep.launcher}): {counts};  {sweep.command}")


def show_logs(found: Sequence[Row], lines: int) -> None:
    """The last lines of what the runs have printed."""
    for row in found:
        print(f"==> {row.name} ({row.state}) <==")
        output = row.run.folder / "output.txt"
        if not output.exists():
            print("(no output yet)" if output.is_symlink() else "(it printed to the terminal that it was started from)")
            continue
        with open(output, errors="replace") as file:
            print("".join(deque(file, maxlen=lines)), end="")


def cancel(found: Sequence[Row]) -> int:
    """Stop runs: each saves first, and the same command continues it.

    Returns:
        Exit code: 1 where one could not be reached.
    """
    code = 0
    for row in found:
        status = row.run.status
        if row.state not in ACTIVE:
            print(f"{row.name}: {row.state}, nothing to stop")
        elif row.job:
            done = subprocess.run(["scancel", row.job], capture_output=True, text=True, check=False)
            code |= int(bool(done.returncode))
            print(f"{row.name}: {done.stderr.strip() or f'SLURM job {row.job} is cancelled'}")
            if row.state == "queued" and not done.returncode:
                row.run.mark("preempted", reason="cancelled")
        elif is_here(status):
            os.kill(status["pid"], signal.SIGTERM)
            print(f"{row.name}: process {status['pid']} is asked to save and stop")
        else:
            code = 1
            print(f"{row.name}: runs on {status['host']}; cancel it there")
    return code


@dataclass(frozen=True)
class Collected:
    """The runs of one config, which differ in their seeds alone.

    Attributes:
        model, data: the config's choices.
        config: its hash, as in the names of its folders.
        differs: how it differs from other configs of the same model and data.
        figures: figure -> its value for each seed.
        seeds: how many there are.
    """

    model: str
    data: str
    config: str
    differs: str
    figures: dict[str, list[float]]
    seeds: int


def collected(found: Sequence[Row]) -> list[Collected]:
    """Finished runs, together by config."""
    groups: dict[tuple[str, str, str], list[Run]] = {}
    for row in found:
        if row.run.result is not None:
            chosen = row.run.config["choices"]
            key = (chosen["model"], chosen["data"], row.run.folder.name.rpartition("-s")[0])
            groups.setdefault(key, []).append(row.run)
    out = []
    for (model, data, config), runs in sorted(groups.items()):
        siblings = [flat(group[0].config) for key, group in groups.items() if key[:2] == (model, data)]
        own = flat(runs[0].config)
        differs = [key for key in own if any(other.get(key) != own[key] for other in siblings)]
        figures: dict[str, list[float]] = {}
        for run in runs:
            for name, value in (run.result or {"figures": {}})["figures"].items():
                figures.setdefault(name, []).append(value)
        out.append(Collected(model, data, config, " ".join(f"{key}={own[key]}" for key in differs), figures, len(runs)))
    return out


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys of what tells configs apart."""
    out: dict[str, Any] = {}
    for key, value in config.items():
        if not prefix and key in (*VOLATILE, "seed", "choices"):
            continue
        if isinstance(value, Mapping):
            out |= flat(value, f"{prefix}{key}.")
        elif key != "seed":
            out[prefix + key] = value
    return out


def spread(values: Sequence[float]) -> float | None:
    """The standard deviation over seeds; None of one alone."""
    return statistics.stdev(values) if len(values) > 1 else None


def show_collected(groups: Sequence[Collected], file: Path | None) -> None:
    """A table of results, mean +- standard deviation over the seeds; in full precision in a CSV file."""
    lines = [["model", "data", "config", "seeds", "figure", "value"]]
    for group in groups:
        head = [group.model, group.data, group.differs or group.config, str(group.seeds)]
        for name, values in group.figures.items():
            deviation = spread(values)
            value = f"{statistics.fmean(values):.4g}" + ("" if deviation is None else f" ± {deviation:.2g}")
            lines.append([*head, name, value])
        if not group.figures:
            lines.append([*head, "none", ""])
    table(lines)
    if file is None:
        return
    with open(file, "w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["model", "data", "config", "differs", "seeds", "figure", "mean", "std"])
        for group in groups:
            for name, values in group.figures.items():
                head = [group.model, group.data, group.config, group.differs, str(group.seeds)]
                writer.writerow([*head, name, statistics.fmean(values), spread(values)])
    print(f"written to {short(file)}")


def table(lines: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their widest cell; plain text, so that it can be searched and piped."""
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def first_line(text: str) -> str:
    return text.splitlines()[0] if text else ""


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m compendium.jobs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("status", "logs", "cancel", "collect"))
    parser.add_argument("run", nargs="*", help="run folder, sweep, SLURM job, part of a run's name; all, without one")
    parser.add_argument("--runs", default="runs", type=Path, help="folder of the run folders (runs)")
    parser.add_argument("--lines", default=20, type=int, help="of each run's output (20)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the collected results to a file, too")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what a command line asks for.

    Returns:
        Exit code: 0 done, 1 a run could not be stopped, 2 a mistake.
    """
    asked = parser().parse_intermixed_args(arguments)
    runs = asked.runs.expanduser().absolute()
    try:
        if not runs.is_dir():
            raise UserError(f"there is no folder {short(runs)}.", "--runs says where the runs are.")
        if asked.command == "cancel" and not asked.run:
            raise UserError("cancel what: a run, a sweep or a SLURM job?", "--help tells how to name one")
        found = rows(runs, asked.run)
        if asked.command == "status":
            show_status(found, runs)
        elif asked.command == "logs":
            show_logs(found, asked.lines)
        elif asked.command == "collect":
            show_collected(collected(found), asked.csv)
            for sweep in ledgers(runs):
                if sweep.comparison and sweep.name in asked.run:
                    from compendium.claims.main import collect

                    return collect(sweep.comparison)
        else:
            return cancel(found)
    except UserError as error:
        return report(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
