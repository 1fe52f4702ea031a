"""The pool: shares of the machine, order, and what becomes of runs that fail."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from compendium import pool
from compendium.config import ROOT
from compendium.errors import UserError
from compendium.pool import Share, shares


@pytest.fixture
def machine(monkeypatch):
    """A machine with eight cores and four devices."""
    monkeypatch.setattr(pool, "cores", lambda: list(range(8)))
    monkeypatch.setattr(pool, "devices", lambda: ["0", "1", "2", "3"])


def test_as_many_as_the_cores_allow_each_pinned_to_its_own(machine):
    found = shares(None, 1)
    assert found == [Share((core,), 1) for core in range(8)]
    assert shares(None, 3) == [Share((0, 1, 2, 3), 3), Share((4, 5, 6, 7), 3)]


def test_fewer_runs_share_the_cores_out(machine):
    assert [share.cores for share in shares(2, None)] == [(0, 1, 2, 3), (4, 5, 6, 7)]
    assert [share.threads for share in shares(2, None)] == [4, 4]


def test_more_runs_than_cores_are_not_pinned(machine):
    found = shares(20, 1)
    assert len(found) == 20
    assert {share.cores for share in found} == {()}


def test_each_run_has_devices_of_its_own(machine):
    assert [share.devices for share in shares(None, 1, per_run=1)] == ["0", "1", "2", "3"]
    assert [share.devices for share in shares(None, 1, per_run=2)] == ["0,1", "2,3"]
    assert [share.devices for share in shares(8, 1, per_run=2)][:3] == ["0,1", "2,3", "0,1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, None), "parallel=0"), ((None, 0), "threads=0"), ((None, 1, 8), "8 devices, and there are 4")],
)
def test_shares_that_there_are_not(machine, arguments, message):
    with pytest.raises(UserError, match=message):
        shares(*arguments)


def test_devices_are_those_that_this_process_may_see(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert pool.devices() == ["2", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert pool.devices() == []


def test_a_run_does_not_see_what_belongs_to_the_run_that_starts_it(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setenv("SLURM_STEP_ID", "1")
    found = pool.environment_of_a_run(Share((), 2, "7"))
    assert "LOCAL_RANK" not in found
    assert "SLURM_STEP_ID" not in found
    assert (found["OMP_NUM_THREADS"], found["CUDA_VISIBLE_DEVICES"]) == ("2", "7")
    assert found["PATH"] == os.environ["PATH"]


def test_the_server_has_imported_what_a_run_needs_and_may_still_fork():
    """Without Lightning each run would take seconds to begin; with a thread or a device open it could not fork."""
    script = (
        "import importlib, sys, threading; from compendium.pool import PRELOADED\n"
        "for name in PRELOADED: importlib.import_module(name)\n"
        "import torch\n"
        "print('lightning.pytorch.trainer' in sys.modules, threading.active_count(), torch.cuda.is_initialized())"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "1", "False"]
