"""Sweeps on this machine: one folder and one result for each job, failures kept apart, only what is missing runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.command import ROOT, apart

TINY = ("model=supervised/classifier", "data=digits", "net=mlp", "callbacks=bare", "trainer.max_epochs=1")
BREAK = "optimizer.lr=1e-3,-1.0"
"""The second job fails: no optimizer takes a negative rate."""


def sweep(*arguments: object, **environment: str):
    return apart("-m", *arguments, **environment)


def folders(runs):
    return sorted(path.parent for path in runs.glob("supervised/classifier/*/*/config.json"))


def states(runs):
    return sorted(json.loads((folder / "status.json").read_text())["state"] for folder in folders(runs))


def test_one_failure_stops_no_other_and_a_rerun_does_what_is_missing(tmp_path):
    first = sweep(*TINY, BREAK, f"runs={tmp_path}", "hydra.launcher.parallel=2")

    assert first.code == 1
    assert states(tmp_path) == ["done", "failed"]
    failed = next(folder for folder in folders(tmp_path) if not (folder / "result.json").exists())
    assert "optimizer" in json.loads((failed / "status.json").read_text())["reason"]
    assert "optimizer" in (failed / "output.txt").read_text()
    assert first.out.count("started:") == 2
    assert "failed after" in first.out

    done = next(folder for folder in folders(tmp_path) if folder != failed)
    before = (done / "result.json").read_bytes()
    second = sweep(*TINY, BREAK, f"runs={tmp_path}", "hydra.launcher.parallel=2")
    assert second.code == 1
    assert second.out.count("started:") == 1
    assert second.out.count("done already") == 1
    assert (done / "result.json").read_bytes() == before

    (ledger,) = (tmp_path / "sweeps").glob("*.json")
    assert set(json.loads(ledger.read_text())["jobs"]) == {str(done), str(failed)}
    # Each job can be done alone, by the command that stands in its result.
    assert "optimizer.lr=0.001" in json.loads(before)["command"]


def test_mistakes_of_all_jobs_are_shown_before_any_starts(tmp_path):
    outcome = sweep("model=supervised/classifier,supervised/clasifier", "seed=0,x", "nett=mlp", f"runs={tmp_path}")

    assert outcome.code == 2
    assert outcome.err.count("error:") == 3
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("hydra/launcher=slrum", "did you mean slurm?"),
        ("hydra.launcher.paralel=2", "did you mean parallel?"),
        ("hydra.launcher.parallel=x", "expected a whole number"),
        ("hydra.launcher.parallel=0", "at least 1"),
        ("logger=csv,none", "make no difference"),
        ("seed=interval(0,1)", "does not support sweep type"),
    ],
)
def test_mistakes_in_the_sweep_itself(tmp_path, argument, message):
    outcome = sweep(*TINY, argument, f"runs={tmp_path}")

    assert outcome.code == 2
    assert message in outcome.err
    assert "Traceback" not in outcome.err


def test_several_values_without_a_sweep_are_refused():
    outcome = apart(*TINY, "seed=0,1")

    assert outcome.code == 2
    assert "-m makes a sweep of it" in outcome.err


def test_files_of_ones_own_can_be_swept_over(tmp_path):
    pytest.importorskip("pandas")
    for name in ("a", "b"):
        rows = [f"{x},{x % 2}" for x in range(40)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["x,y", *rows]))
    data = f"data={tmp_path}/a.csv,{tmp_path}/b.csv"
    outcome = sweep("model=supervised/classifier", data, "data.target=y", "dry=true", f"runs={tmp_path}/runs")

    assert outcome.code == 0, outcome.err
    assert outcome.out.count("supervised/classifier on csv") == 2


@pytest.mark.slow
def test_distributed_jobs_give_one_folder_and_one_result_each(tmp_path):
    leaked = {"LOCAL_RANK": "1", "MASTER_PORT": "1", "WORLD_SIZE": "7", "RANK": "3"}
    outcome = sweep(*TINY, "trainer=ddp", "trainer.accelerator=cpu", "seed=0,1", f"runs={tmp_path}", **leaked)

    assert outcome.code == 0, outcome.out + outcome.err
    assert states(tmp_path) == ["done", "done"]
    assert len(list(tmp_path.rglob("result.json"))) == 2
    assert len(list(tmp_path.rglob("config.json"))) == 2


def test_ctrl_c_stops_every_job_with_its_state_saved(tmp_path):
    command = [sys.executable, str(ROOT / "train.py"), "-m", *TINY[:-1], "trainer.max_epochs=2000"]
    process = subprocess.Popen([*command, "seed=0,1", "hydra.launcher.parallel=2", f"runs={tmp_path}"])
    logs = lambda: list(tmp_path.rglob("metrics.jsonl"))  # noqa: E731
    end = time.monotonic() + 240  # on a busy machine two runs take a minute to begin
    while len(logs()) < 2 and time.monotonic() < end:
        time.sleep(0.2)
    assert len(logs()) == 2
    process.send_signal(signal.SIGINT)

    assert process.wait(60) == 130
    assert states(tmp_path) == ["preempted", "preempted"]
    assert len(list(tmp_path.rglob("last.ckpt"))) == 2
    for folder in folders(tmp_path):
        with pytest.raises(ProcessLookupError):
            os.kill(json.loads((folder / "status.json").read_text())["pid"], 0)
