"""`python -m compendium.jobs` on run folders alone: no SLURM answers here, and nothing is trained."""

from __future__ import annotations

import csv
import json
import socket
import statistics
import subprocess
import sys
import time

import pytest

from compendium import jobs
from compendium.jobs import Cluster, process_start, standing
from tests.command import ROOT, here


def write(runs, seed=0, lr=0.1, hash="12345678", status=None, figures=None):
    """A run folder as a run leaves it."""
    folder = runs / "supervised/classifier/digits" / f"{hash}-s{seed}"
    folder.mkdir(parents=True)
    chosen = {"model": "supervised/classifier", "data": "digits"}
    config = {"choices": chosen, "seed": seed, "optimizer": {"lr": lr}, "datamodule": {"seed": seed}}
    (folder / "config.json").write_text(json.dumps(config))
    if status:
        (folder / "status.json").write_text(json.dumps(status))
    if figures:
        (folder / "result.json").write_text(json.dumps({"figures": figures, "seconds": 3.0}))
    return folder


def at_work(pid, host=None, when=None, **more):
    now = time.time() if when is None else when
    return {"state": "running", "pid": pid, "host": host or socket.gethostname(), "time": now, "attempts": 1} | more


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


class Queue(Cluster):
    """A cluster with a queue of the test's own; None: it does not answer."""

    def __init__(self, queue):
        self.__dict__["queue"] = queue


@pytest.mark.parametrize(
    ("status", "job", "queue", "state"),
    [
        ({"state": "pending"}, None, {}, "pending"),
        ({"state": "pending"}, "7_0", {"7_0": ("PENDING", "Resources")}, "queued"),
        ({"state": "pending"}, "7_0", {"7_0": ("RUNNING", "None")}, "running"),
        ({"state": "pending"}, "7_0", {"7_1": ("RUNNING", "None")}, "lost"),
        ({"state": "pending"}, "7_0", None, "pending"),
        ({"state": "running", "job": "7_0"}, "7_0", {"7_0": ("RUNNING", "None")}, "running"),
        ({"state": "running", "job": "7_0"}, "7_0", {}, "lost"),
        ({"state": "running", "job": "7_0"}, "7_0", None, "running"),
        ({"state": "preempted", "job": "7", "signal": "SIGUSR1"}, "7", {"7": ("PENDING", "BeginTime")}, "queued"),
        ({"state": "preempted", "job": "7", "signal": "SIGUSR1"}, "7", {"7": ("COMPLETING", "None")}, "preempted"),
        ({"state": "preempted", "job": "7", "signal": "SIGUSR1"}, "7", {}, "preempted"),
        ({"state": "preempted", "reason": "cancelled"}, "7", {"7": ("COMPLETING", "None")}, "running"),
        ({"state": "preempted", "reason": "cancelled"}, "7", {}, "preempted"),
        ({"state": "failed", "job": "7", "reason": "no"}, "7", {"7": ("COMPLETING", "None")}, "failed"),
        ({"state": "failed", "reason": "no"}, "7", {}, "failed"),
        ({"state": "done", "job": "7"}, "7", {"7": ("COMPLETING", "None")}, "done"),
    ],
)
def test_state_is_what_the_run_says_and_what_the_queue_knows(status, job, queue, state):
    assert standing(status, [job] if job else [], Queue(queue))[0] == state


@pytest.mark.parametrize(("slurm", "state"), [("PENDING", "queued"), ("RUNNING", "running")])
def test_job_that_is_to_come_counts_before_the_one_that_ends(slurm, state):
    stopped = {"state": "preempted", "job": "6", "signal": "SIGTERM"}
    queue = Queue({"6": ("COMPLETING", "None"), "7": (slurm, "None")})
    assert standing(stopped, ["6", "7"], queue)[::2] == (state, "7")


def test_a_local_run_is_lost_once_its_process_is(sleeper):
    assert standing(at_work(sleeper.pid), [], Queue(None))[0] == "running"
    assert standing(at_work(sleeper.pid, host="elsewhere"), [], Queue(None))[:2] == ("running", "on elsewhere")
    # The number belongs to another process by now: that one began after the status was written.
    assert standing(at_work(sleeper.pid, when=time.time() - 3600), [], Queue(None))[0] == "lost"
    sleeper.kill()
    sleeper.wait()
    assert standing(at_work(sleeper.pid), [], Queue(None))[0] == "lost"


def test_start_of_a_process(sleeper):
    assert process_start(sleeper.pid) == pytest.approx(time.time(), abs=2)
    assert process_start(2**30) is None


def test_status_shows_every_run(tmp_path, capsys):
    write(tmp_path, 0, status={"state": "done", "attempts": 2}, figures={"test/accuracy": 0.5})
    write(tmp_path, 1, status={"state": "failed", "attempts": 1, "reason": "ValueError: no\nmore"})
    write(tmp_path, 2)
    write(tmp_path, 3).rename(tmp_path / "supervised/classifier/digits/12345678-s3.old-1")

    assert jobs.main(["status", "--runs", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[1:]] == ["done", "failed", "pending"]
    assert lines[1].split()[2:4] == ["2", "3"]
    assert lines[2].endswith("ValueError: no")


def test_runs_are_named_by_folder_sweep_or_part(tmp_path, capsys):
    first, second = write(tmp_path, 0), write(tmp_path, 1)
    (tmp_path / "sweeps").mkdir()
    ledger = {"command": "python train.py -m", "launcher": "slurm", "time": 0, "jobs": {str(second): {"overrides": []}}}
    (tmp_path / "sweeps" / "abcdef01.json").write_text(json.dumps(ledger))

    def named(*words):
        code = jobs.main(["status", "--runs", str(tmp_path), *words])
        return code, capsys.readouterr().out.count("12345678-s")

    assert named() == (0, 2)
    assert named(str(first)) == (0, 1)
    assert named("s1") == (0, 1)
    assert named("abcdef01") == (0, 1)
    assert named("classifier") == (0, 2)
    assert named("nothing") == (2, 0)


def test_logs_are_the_last_lines(tmp_path, capsys):
    folder = write(tmp_path)
    (folder / "output.txt").write_text("".join(f"line {number}\n" for number in range(100)))

    jobs.main(["logs", "--runs", str(tmp_path), "--lines", "3"])
    assert capsys.readouterr().out.splitlines()[1:] == ["line 97", "line 98", "line 99"]


def test_cancel_asks_a_local_run_to_stop(tmp_path, sleeper):
    write(tmp_path, status=at_work(sleeper.pid))

    assert jobs.main(["cancel", "--runs", str(tmp_path)]) == 2  # all of them, by an oversight
    assert sleeper.poll() is None
    assert jobs.main(["cancel", "--runs", str(tmp_path), "s0"]) == 0
    assert sleeper.wait(10) == -15


def test_collect_is_mean_and_deviation_over_seeds(tmp_path, capsys):
    values = [0.5, 0.75, 0.7]
    for seed, value in enumerate(values):
        write(tmp_path, seed, figures={"test/accuracy": value})
    write(tmp_path, 0, lr=0.2, hash="87654321", figures={"test/accuracy": 0.25})

    assert jobs.main(["collect", "--runs", str(tmp_path), "--csv", str(tmp_path / "all.csv")]) == 0
    shown = capsys.readouterr().out
    assert "optimizer.lr=0.1" in shown
    assert "0.65 ± 0.13" in shown
    with open(tmp_path / "all.csv") as file:
        rows = {row["differs"]: row for row in csv.DictReader(file)}
    row = rows["optimizer.lr=0.1"]
    assert row["seeds"] == "3"
    assert float(row["mean"]) == statistics.fmean(values)
    assert float(row["std"]) == statistics.stdev(values)
    assert rows["optimizer.lr=0.2"]["std"] == ""  # one seed has no deviation


def test_torch_is_not_imported():
    check = "import sys, compendium.jobs; sys.exit('torch' in sys.modules or 'hydra' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=False).returncode == 0


def test_slurm_without_submitit_is_one_line(tmp_path, capfd, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    outcome = here(capfd, "-m", "hydra/launcher=slurm", "model=supervised/classifier", f"runs={tmp_path}")

    assert outcome.code == 2
    assert "hydra/launcher=slurm needs the package 'submitit'" in outcome.err
    assert "pip install -e '.[slurm]'" in outcome.err
    assert not list(tmp_path.rglob("config.json"))


def test_slurm_gives_as_many_processes_as_the_trainer_asks_for(tmp_path, capfd):
    pytest.importorskip("submitit")
    two = ("-m", "hydra/launcher=slurm", "hydra.launcher.nodes=2", "model=supervised/classifier", f"runs={tmp_path}")

    outcome = here(capfd, *two)
    assert outcome.code == 2
    assert "trainer=slurm takes what SLURM gives" in outcome.err
    assert here(capfd, *two, "trainer=slurm", "dry=true").code == 0
