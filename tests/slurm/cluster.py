"""What the tests ask of the cluster and of the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from tests.command import ROOT, Outcome

TINY = ("model=supervised/classifier", "data=digits", "net=mlp", "callbacks=bare")
QUICK = (*TINY, "trainer.max_epochs=1")
LONG = (*TINY, "trainer.max_epochs=150", "callbacks.log.every=10")
"""Some ten seconds of training: time enough to be interrupted in."""

ACCURACY = "++callbacks.evaluation.classification._target_=callbacks.evaluation.classification.Classification"


def shell(*words: object, check: bool = True) -> Outcome:
    """A command to its end."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    done = subprocess.run(
        [str(word) for word in words],
        capture_output=True, text=True, timeout=120, cwd=ROOT, env=environment, check=False,
    )  # fmt: skip
    assert not check or done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return Outcome(done.returncode, done.stdout, done.stderr)


def jobs(*words: object, check: bool = True) -> Outcome:
    """`python -m compendium.jobs WORDS`, in another process than any run's."""
    return shell(sys.executable, "-m", "compendium.jobs", *words, check=check)


def submit(runs: Path, *overrides: str) -> list[str]:
    """Submit a sweep.

    Returns:
        The jobs' ids.
    """
    launcher = ("hydra/launcher=slurm", "hydra.launcher.time=10")
    out = shell(sys.executable, "train.py", "-m", *launcher, f"runs={runs}", *overrides)
    return submitted(out.out)


def submitted(out: str) -> list[str]:
    """The ids of the jobs that a command says it has submitted."""
    return [line.split()[2].rstrip(":") for line in out.splitlines() if line.startswith("SLURM job ")]


def folders(runs: Path) -> list[Path]:
    return sorted(path.parent for path in runs.glob("supervised/classifier/*/*/config.json"))


def state(folder: Path) -> str:
    path = folder / "status.json"
    return json.loads(path.read_text())["state"] if path.exists() else "pending"


def in_queue(job: str) -> str:
    """SLURM's state of a job; empty once it is gone."""
    lines = shell("squeue", "--noheader", "--array", "--format=%i %T").out.splitlines()
    return dict(line.split() for line in lines).get(job, "")


def wait(condition: Callable[[], object], seconds: float = 60, what: str = "") -> None:
    """Until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.2)


def training(folder: Path, lines: int) -> Callable[[], bool]:
    """Whether a run has logged so many lines."""
    log = folder / "metrics.jsonl"
    return lambda: log.exists() and log.read_bytes().count(b"\n") >= lines


def release(job: str) -> None:
    """Start a requeued job soon: SLURM holds it back for two minutes.

    Not at once: the first attempt's credential was revoked in this second, and a node takes any that was made in the
    same second for revoked too ("Job credential revoked") and ends the job.
    """
    wait(lambda: in_queue(job) == "PENDING", what=f"job {job} is requeued")
    shell("scontrol", "update", f"JobId={job}", "StartTime=now+2seconds")


def finish(folder: Path, job: str) -> None:
    """Wait until a run is done and its job has left the queue."""
    wait(lambda: state(folder) in ("done", "failed"), what=f"{folder} ends")
    assert state(folder) == "done", (folder / "output.txt").read_text()
    wait(lambda: not in_queue(job), what=f"job {job} leaves the queue")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def assert_same_bits(one: Path, other: Path) -> None:
    """Two runs of one config ended with the same weights and the same log."""
    assert one.name == other.name  # the same config and seed
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
