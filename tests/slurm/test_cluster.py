"""Two nodes, sweeps, signals, preemption and the commands of `compendium.jobs`, on a cluster."""

from __future__ import annotations

import csv
import json
import sys

import pytest

from tests.command import apart
from tests.slurm.cluster import (
    ACCURACY,
    LONG,
    QUICK,
    assert_same_bits,
    finish,
    folders,
    in_queue,
    jobs,
    release,
    shell,
    state,
    submit,
    training,
    wait,
)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The long run from end to end, without SLURM and without an interruption."""
    runs = tmp_path_factory.mktemp("unbroken")
    outcome = apart(*LONG, f"runs={runs}")
    assert outcome.code == 0, outcome.err
    return folders(runs)[0]


@pytest.fixture
def runs(tmp_path):
    """A folder of runs whose jobs end with the test."""
    yield tmp_path
    for ledger in (tmp_path / "sweeps").glob("*.json"):
        for job in json.loads(ledger.read_text())["jobs"].values():
            shell("scancel", job["job"], check=False)


def test_srun_trains_over_two_nodes(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPENDIUM_ALLOW", "tests")
    world = "++callbacks.world._target_=tests.slurm.world.World"
    out = shell("srun", "-N2", "-n2", sys.executable, "train.py", "trainer=slurm", world, *QUICK, f"runs={tmp_path}")

    assert "2 processes on 2 nodes" in out.out
    (folder,) = folders(tmp_path)
    seen = [json.loads((folder / f"world-{rank}.json").read_text()) for rank in (0, 1)]
    assert seen == [{"world_size": 2, "node": "n1"}, {"world_size": 2, "node": "n2"}]
    assert (folder / "result.json").exists()
    assert len(list(tmp_path.rglob("result.json"))) == 1


def test_sweep_is_submitted_and_finishes(runs):
    ids = submit(runs, *QUICK, "seed=0,1")
    assert len(ids) == 2

    first, second = folders(runs)
    assert state(first) != "done"  # nobody has waited for it
    finish(first, ids[0])
    finish(second, ids[1])
    assert (first / "result.json").exists()
    assert (second / "result.json").exists()

    assert submit(runs, *QUICK, "seed=0,1") == []  # the same command again: there is nothing to do


def test_signal_saves_requeues_and_ends_with_the_same_bits(runs, unbroken):
    (job,) = submit(runs, *LONG)
    (folder,) = folders(runs)
    wait(training(folder, 5), what="training")
    shell("scancel", "--signal=USR1", job)

    wait(lambda: state(folder) == "preempted", what="saved")
    release(job)
    finish(folder, job)

    output = (folder / "output.txt").read_text()
    assert output.count("SIGUSR1 and SIGTERM are handled by Compendium alone") == 2  # at each start
    assert f"stopped by SIGUSR1 with everything saved; SLURM job {job} is requeued" in output
    assert "Bypassing signal" not in output  # submitit's handlers are gone
    assert json.loads((folder / "status.json").read_text())["attempts"] == 2
    assert_same_bits(folder, unbroken)


def test_preemption_saves_requeues_and_ends_with_the_same_bits(runs, unbroken):
    (job,) = submit(runs, *LONG)
    (folder,) = folders(runs)
    wait(training(folder, 5), what="training")
    # Both nodes for a partition of higher priority: the job has to go.
    shell("sbatch", "--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")

    wait(lambda: state(folder) == "preempted", what="saved")
    release(job)
    finish(folder, job)

    assert "stopped by SIGTERM with everything saved" in (folder / "output.txt").read_text()
    assert_same_bits(folder, unbroken)


def test_status_logs_cancel_and_collect_from_another_process(runs):
    ids = submit(runs, *LONG, ACCURACY, "seed=0,1,2", "hydra.launcher.array_parallelism=1")
    first, second, third = folders(runs)
    wait(training(first, 5), what="training")
    at = ("--runs", runs)

    shown = {line.split()[0].rpartition("/")[2]: line for line in jobs("status", *at).out.splitlines()[1:4]}
    assert "running" in shown[first.name]
    assert "queued" in shown[second.name]
    assert all(job in shown[folder.name] for job, folder in zip(ids, (first, second, third), strict=True))
    assert "handled by Compendium alone" in jobs("logs", first.name, *at).out
    assert "no output yet" in jobs("logs", third.name, *at).out

    jobs("cancel", second.name, *at)
    jobs("cancel", first.name, *at)
    wait(lambda: state(first) == "preempted", what="cancelled with its state saved")
    wait(lambda: not in_queue(ids[0]) and not in_queue(ids[1]), what="the cancelled jobs leave the queue for good")
    assert (first / "checkpoints" / "last.ckpt").exists()
    assert "was cancelled or preempted" in (first / "output.txt").read_text()

    finish(third, ids[2])
    jobs("collect", *at, "--csv", runs / "results.csv")
    with open(runs / "results.csv") as file:
        row = next(row for row in csv.DictReader(file) if row["figure"] == "test/accuracy")
    assert (row["model"], row["data"], row["seeds"]) == ("supervised/classifier", "digits", "1")
    assert float(row["mean"]) == json.loads((third / "result.json").read_text())["figures"]["test/accuracy"]
