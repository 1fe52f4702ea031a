"""Runs that are killed at random moments end with the bits of an unbroken one, for each kind of method."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
import torch

from compendium.config import ROOT
from tests.compendium.quick import CLASSIFICATION
from tests.reliability.kill_trials import compare, finish, planned, unequal

SMALL = ("trainer=cpu", "callbacks=bare", "callbacks.log.every=7")
KINDS = {
    "supervised": (
        "model=supervised/classifier",
        "data=wine",
        "net=mlp",
        "net.width=16",
        "datamodule.batch_size=8",
        "trainer.max_epochs=25",
        CLASSIFICATION,
    ),
    "continual": ("model=continual/g_acil", "model.features=64", "datamodule.batch_size=8", CLASSIFICATION),
    "generative": (
        "model=generative/stochastic_interpolant",
        "data=moons",
        "data.train=512",
        "data.validation=64",
        "data.test=64",
        "net.vector.width=16",
        "net.vector.depth=1",
        "datamodule.batch_size=16",
        "trainer.max_epochs=10",
        "model.likelihood_steps=2",
        "+callbacks.evaluation.density._target_=callbacks.evaluation.density.Likelihood",
        "+callbacks.evaluation.density.stages=[validate,test]",
        "callbacks.checkpoint.monitor=validate/nll",
        "callbacks.checkpoint.mode=min",
    ),
    "preference": (
        "model=preference/policy_gradient",
        "data.train=128",
        "data.validation=16",
        "data.test=16",
        "net.width=16",
        "net.depth=1",
        "net.heads=1",
        "datamodule.batch_size=8",
        "datamodule.passes=2",
        "trainer.max_epochs=6",
        "+callbacks.evaluation.answers._target_=callbacks.evaluation.answers.Answers",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_killed_runs_end_with_the_same_bits(kind):
    done = subprocess.run(
        [sys.executable, "-m", "tests.reliability.kill_trials", *KINDS[kind], *SMALL, "--trials", "2", "--kills", "3"],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = re.fullmatch(r"2 trials, (\d+) kills \(\d+ during .*\), all bits equal", done.stdout.splitlines()[-1])
    assert told, done.stdout
    assert int(told[1]) >= 2, "most kills strike a living run"


def test_the_comparison_notices_another_seed(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPENDIUM_ALLOW", "tests")
    runs = [
        planned([*KINDS["supervised"], "trainer.max_epochs=1", *SMALL, f"seed={seed}"], tmp_path) for seed in (0, 1)
    ]
    again = planned([*KINDS["supervised"], "trainer.max_epochs=1", *SMALL, "seed=0"], tmp_path / "again")
    for run in (*runs, again):
        finish(run)
    found = compare(*runs)
    assert {"metrics.jsonl", "figures", "order of the records"} <= set(found)
    assert any(name.startswith("last.ckpt: state_dict") for name in found)
    assert any(name.startswith("last.ckpt: optimizer_states") for name in found)
    assert compare(runs[0], again) == []


def test_the_comparison_is_by_bits():
    zero, minus = torch.tensor([0.0, 1.0]), torch.tensor([-0.0, 1.0])
    nan = torch.tensor([float("nan")])
    assert unequal({"a": [zero]}, {"a": [minus]}) == ["a[0]"]
    assert unequal(nan, nan.clone()) == []
    assert unequal({"a": 1}, {"a": True}) == ["a"]
    assert unequal({"a": 1}, {"b": 1}) == [".a", ".b"]
    assert unequal(torch.tensor(0.0), torch.tensor(-0.0)) == [""]
