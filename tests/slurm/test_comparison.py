"""A comparison over SLURM: submitted, watched, cancelled and collected from other shells, with the same result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

from tests.command import ROOT
from tests.compendium.quick import CLASSIFIER
from tests.slurm.cluster import in_queue, submitted, wait

BASE = (*CLASSIFIER, "trainer.max_epochs=3")
ARMS = ("arms.narrow=net.width=4", "arms.wide=net.width=32", "checks=wide.test/nll < narrow.test/nll", "seeds=2")
SLURM = ("launcher=slurm", "launcher.time=5", "launcher.partition=low")


def compared(folder, *arguments):
    """`python compare.py ARGUMENTS` from a folder."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "compare.py"), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    return done.returncode, done.stdout, done.stderr


def jobs(folder, *arguments):
    """`python -m compendium.jobs ARGUMENTS` from a folder."""
    done = subprocess.run(
        [sys.executable, "-m", "compendium.jobs", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    return done.returncode, done.stdout


def active(folder, name):
    """Whether SLURM still has a run of a comparison."""
    shown = jobs(folder, "status", name)[1]
    return " running " in shown or " queued " in shown


def result(folder):
    (path,) = folder.glob("runs/comparisons/*/result.json")
    return {key: value for key, value in json.loads(path.read_text()).items() if key != "made"}


def test_the_same_runs_and_the_same_result_as_on_this_machine(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    assert compared(here, *BASE, *ARMS)[0] == 3

    code, out, err = compared(there, *BASE, *ARMS, *SLURM)
    assert code == 0, err
    assert "4 jobs submitted" in out
    (ledger,) = (there / "runs" / "sweeps").glob("*.json")
    end = time.monotonic() + 240
    while time.monotonic() < end and len(list(there.glob("runs/supervised/**/result.json"))) < 4:
        time.sleep(1)
    code, out = jobs(there, "status", ledger.stem)
    assert out.count(" done ") >= 4, out
    code, out = jobs(there, "logs", ledger.stem)
    assert "done" in out

    code, out = jobs(there, "collect", ledger.stem)
    assert code == 3
    assert "wide.test/nll < narrow.test/nll" in out
    assert result(there) == result(here)
    assert compared(there, *BASE, *ARMS, *SLURM)[0] == 3  # the same command again: nothing to submit, the verdict


def test_runs_wait_for_the_stage_that_they_start_from(tmp_path):
    from compendium.claims.claim import Claim
    from compendium.claims.plan import plan
    from compendium.claims.work import ledger_of, on_slurm

    claim = Claim.of(
        {
            "arms": {"kept": "weights={base} trainer.max_epochs=0", "tuned": "weights={base} optimizer.lr=0.02"},
            "stages": {"base": " ".join(BASE)},
            "base": " ".join(BASE),
            "seeds": 1,
        },
        "room/key",
        "the claim",
    )
    planned = plan(claim, quiet=[f"runs={tmp_path}"])
    ledger = ledger_of(planned, "slurm", "the command", [])
    assert on_slurm(planned, ledger, {"time": 5, "partition": "low"}) == 3
    end = time.monotonic() + 240
    while time.monotonic() < end and not all(job.run.result for job in planned.all):
        time.sleep(1)
    stage, *arms = [job.run.result for job in planned.all]
    assert stage is not None
    assert arms[0]["figures"] == stage["figures"]


def test_cancelled_it_goes_on_with_the_same_command(tmp_path):
    long = (*BASE, "trainer.max_epochs=20000", "trial=false")
    assert compared(tmp_path, *long, *ARMS, *SLURM)[0] == 0
    (ledger,) = (tmp_path / "runs" / "sweeps").glob("*.json")
    assert jobs(tmp_path, "cancel", ledger.stem)[0] == 0
    wait(lambda: not active(tmp_path, ledger.stem), 120, "the cancelled jobs end")
    code, out, _ = compared(tmp_path, *long, *ARMS, *SLURM)
    assert code == 0
    assert "4 jobs submitted" in out
    assert jobs(tmp_path, "cancel", ledger.stem)[0] == 0
    ids = submitted(out)
    assert len(ids) == 4
    wait(lambda: not any(map(in_queue, ids)), 120, "jobs that were cancelled at once leave the queue for good")
