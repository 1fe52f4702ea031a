"""A job given back to SLURM, with a `scontrol` that answers as SLURM does; tests/slurm has the real one."""

from __future__ import annotations

import subprocess

import pytest

from compendium import interruption


@pytest.fixture
def slurm(monkeypatch):
    """The commands that SLURM was given. Task 1 of array 7 runs under the number of the array; task 0 was cancelled."""
    tasks = {"7_0": "JobState=CANCELLED Reason=None", "7_1": "JobState=RUNNING Reason=None"}
    given = []

    def scontrol(*arguments):
        given.append(arguments)
        job = arguments[-1]
        shown = [state for task, state in tasks.items() if job in (task, "7")] if arguments[0] == "show" else []
        return subprocess.CompletedProcess(arguments, 0, "\n".join(shown), "")

    monkeypatch.setattr(interruption, "scontrol", scontrol)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    return given


def test_task_that_bears_the_number_of_its_array_is_requeued_whatever_became_of_the_others(slurm, monkeypatch):
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    assert interruption.requeue() == "SLURM job 7_1 is requeued"
    assert slurm[-1] == ("requeue", "7_1")


def test_cancelled_task_is_not_requeued(slurm, monkeypatch):
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    assert "was cancelled or preempted" in interruption.requeue()
    assert [command for command, *_ in slurm] == ["show"]
