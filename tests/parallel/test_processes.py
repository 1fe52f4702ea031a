"""Several processes on one machine: the figures of one, no hang when one dies, the same bits after a stop."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from compendium.config import ROOT, choices
from compendium.engine import execute
from compendium.run import Run, read_json
from modules.method import Method
from tests.command import here
from tests.compendium.quick import CLASSIFICATION, CLASSIFIER, only_folder
from tests.parallel import optimizers

BARE = ("trainer=cpu", "callbacks=bare", "logger=none", "callbacks.log.every=3")
PARTS = ("++callbacks.striker._target_=tests.reliability.recorder.Striker",)
TWO = ("trainer.strategy=ddp", "trainer.devices=2")

KINDS = {
    "classifier": (*CLASSIFIER, "trainer.max_epochs=2"),
    "regressor": (
        "model=supervised/regressor",
        "net.vector.width=8",
        "trainer.max_epochs=2",
        "+callbacks.evaluation.regression._target_=callbacks.evaluation.regression.Regression",
    ),
    "zeroth": (*CLASSIFIER, "optimizer=zo2", "optimizer.lr=0.01", "schedule=constant"),
    "solved": ("model=continual/g_acil", "model.features=32", "data=wine", "datamodule.tasks=3", CLASSIFICATION),
    "interpolant": (
        "model=generative/stochastic_interpolant",
        "data=moons",
        "data.train=200",
        "data.validation=33",
        "data.test=101",
        "datamodule.eval_batch_size=40",
        "datamodule.batch_size=50",
        "net.vector.width=8",
        "net.vector.depth=1",
        "trainer.max_epochs=2",
        "model.likelihood_steps=2",
        "+callbacks.evaluation.density._target_=callbacks.evaluation.density.Likelihood",
    ),
}


def start(*arguments: object, **environment: str) -> subprocess.Popen:
    """`python train.py ARGUMENTS` as the leader of a process group, so that a test can look for what it leaves."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"COMPENDIUM_ALLOW": "tests", "PYTHONPATH": str(ROOT)} | environment,
        start_new_session=True,
    )


def members(group: int) -> list[int]:
    """Processes of a group that are alive."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(pgrp) == group and state != "Z":
            found.append(int(stat.parent.name))
    return found


def ended(process: subprocess.Popen, seconds: float) -> tuple[int, str, float]:
    """Its exit code, what it printed, and how long that took; a process that goes on is killed and fails the test."""
    started = time.monotonic()
    try:
        out, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, _ = process.communicate()
        pytest.fail(f"still running after {seconds} s:\n{out[-3000:]}")
    return process.returncode, out, time.monotonic() - started


def gone(group: int, seconds: float = 10) -> bool:
    """Whether no process of a group is left, soon."""
    end = time.monotonic() + seconds
    while members(group) and time.monotonic() < end:
        time.sleep(0.1)
    left = members(group)
    if left:
        os.killpg(group, signal.SIGKILL)
    return not left


def figures_of(out: str) -> dict[str, str]:
    """The printed table."""
    return dict(re.findall(r"│ (\S+)\s+│\s+(\S+) │", out))


def last(folder: Path) -> dict:
    return torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.parametrize("kind", ["classifier", "regressor", "solved", "zeroth"])
def test_one_and_two_processes_give_the_same_figures(kind, tmp_path, capfd):
    two = start(*KINDS[kind], *BARE, *TWO, f"runs={tmp_path}/two")
    one = here(capfd, *KINDS[kind], *BARE, f"runs={tmp_path}/one")
    assert one.code == 0, one.err
    code, out, _ = ended(two, 120)
    assert code == 0, out
    folders = [only_folder(tmp_path / name) for name in ("one", "two")]
    figures = [read_json(folder / "result.json")["figures"] for folder in folders]
    assert figures[0].keys() == figures[1].keys()
    assert figures[0], "there is something to compare"
    for name, value in figures[0].items():
        assert figures[1][name] == pytest.approx(value, abs=1e-5), name
    weights = [last(folder) for folder in folders]
    for name, value in weights[0].items():
        tolerance = 1e-8 if kind == "solved" else 1e-4
        torch.testing.assert_close(weights[1][name], value, rtol=0, atol=tolerance, msg=name)
    alone = Method.load_from_checkpoint(folders[1] / "checkpoints/last.ckpt")  # it opens in one process
    assert all(torch.equal(value, weights[1][name]) for name, value in alone.state_dict().items())


def test_optimizers_that_ask_for_more_than_gradients_step_alike_in_one_and_two_processes(tmp_path):
    both = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "tests.parallel.optimizers")
    two = subprocess.Popen(
        [sys.executable, *both, str(tmp_path / "two")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    for name in optimizers.asking():
        run = optimizers.planned(name, tmp_path / "one")
        run.freeze()
        assert execute(run) == 0
    code, out, _ = ended(two, 180)
    assert code == 0, out
    for name in optimizers.asking():
        one, other = (optimizers.weights(name, tmp_path / folder) for folder in ("one", "two"))
        for key, value in one.items():
            torch.testing.assert_close(other[key], value, rtol=0, atol=1e-5, msg=f"{name} {key}")


def test_one_and_two_processes_evaluate_the_same_weights_alike(tmp_path, capfd):
    """A method that draws noise trains on other noise in each process; what its weights give is the same."""
    arguments = (*KINDS["interpolant"], *BARE)
    one = here(capfd, *arguments, f"runs={tmp_path}/one")
    assert one.code == 0, one.err
    weights = only_folder(tmp_path / "one") / "checkpoints/last.ckpt"
    code, out, _ = ended(start(*arguments, *TWO, f"runs={tmp_path}/two", "run=test", f"ckpt={weights}"), 180)
    assert code == 0, out
    assert figures_of(out)
    assert figures_of(out) == figures_of(one.out)


def test_every_record_is_evaluated_exactly_once(tmp_path, capfd):
    """Predictions of two processes, with a last batch that does not divide: each record once, in order."""
    arguments = (*KINDS["classifier"], *BARE, "datamodule.eval_batch_size=7", f"runs={tmp_path}")
    assert here(capfd, *arguments).code == 0
    alone = only_folder(tmp_path)
    import numpy as np

    assert here(capfd, *arguments, "run=predict").code == 0
    with np.load(alone / "predictions.npz") as file:
        one = dict(file)
    more = (f"ckpt={alone}/checkpoints/last.ckpt", "run=predict", *TWO, f"runs={tmp_path}/two")
    code, out, _ = ended(start(*arguments[:-1], *more), 180)
    assert code == 0, out
    (path,) = (tmp_path / "two").rglob("predictions.npz")
    with np.load(path) as file:
        two = dict(file)
    assert (two["row"] == one["row"]).all()
    assert len(set(two["row"].tolist())) == len(two["row"]) == 36
    np.testing.assert_allclose(two["probability"], one["probability"], atol=1e-6)


DESCENDED = sorted(name for name in choices("model") if "optimizer: none" not in choices("model")[name].read_text())


@pytest.mark.parametrize("model", DESCENDED)
def test_every_descended_model_trains_in_bfloat16(model, tmp_path, capfd):
    few = (
        "trainer.max_epochs=1",
        "trainer.limit_train_batches=3",
        "datamodule.batch_size=16",
        "trainer.precision=bf16-mixed",
    )
    outcome = here(capfd, f"model={model}", *BARE, *few, f"runs={tmp_path}", "callbacks.log.every=1")
    assert outcome.code == 0, outcome.err
    state = last(only_folder(tmp_path))
    weights = [value for value in state.values() if value.is_floating_point()]
    assert all(value.isfinite().all() for value in weights)
    assert {value.dtype for value in weights} <= {torch.float32, torch.float64}, "the weights themselves stay precise"


def test_bfloat16_on_two_processes(tmp_path):
    code, out, _ = ended(
        start(*KINDS["classifier"], *BARE, *TWO, "trainer.precision=bf16-mixed", f"runs={tmp_path}"), 90
    )
    assert code == 0, out
    assert "test/accuracy" in out


class TestAProcessThatDies:
    def test_an_error_in_the_second_ends_the_run_and_is_shown(self, tmp_path):
        run = start(
            *KINDS["classifier"], *BARE, *TWO, *PARTS, f"runs={tmp_path}", STRIKE="on_train_batch_start:5:raise:1"
        )
        code, out, _ = ended(run, 120)
        assert code not in (0, None), out
        assert "struck rank 1 at on_train_batch_start" in out
        assert "Traceback" in out
        assert gone(run.pid)
        assert Run.open(only_folder(tmp_path)).status["state"] == "failed"

    def test_a_kill_of_the_second_ends_the_run(self, tmp_path):
        run = start(
            *KINDS["classifier"], *BARE, *TWO, *PARTS, f"runs={tmp_path}", STRIKE="on_train_batch_start:5:SIGKILL:1"
        )
        code, out, _ = ended(run, 120)
        assert code not in (0, None), out
        assert gone(run.pid)
        assert Run.open(only_folder(tmp_path)).status["state"] == "failed"

    def test_a_kill_of_the_first_leaves_no_orphan(self, tmp_path):
        run = start(
            *KINDS["classifier"], *BARE, *TWO, *PARTS, f"runs={tmp_path}", STRIKE="on_train_batch_start:5:SIGKILL:0"
        )
        assert run.wait(60) == -signal.SIGKILL
        assert gone(run.pid, 20)
        run.stdout.close()


def test_a_batch_that_does_not_divide_is_one_line(tmp_path):
    run = start(*CLASSIFIER, *BARE, *TWO, "datamodule.batch_size=15", f"runs={tmp_path}")
    code, out, _ = ended(run, 180)
    assert code == 2, out
    assert "datamodule.batch_size=15 does not divide among 2 processes" in out
    assert "Traceback" not in out
    assert gone(run.pid)


@pytest.mark.slow
def test_a_stopped_run_of_two_processes_ends_with_the_same_bits(tmp_path):
    """SIGTERM to the first process in the second epoch; both stop at the same step, and the same command goes on."""
    arguments = (*KINDS["classifier"], *BARE, *TWO, *PARTS)
    unbroken = start(*arguments, f"runs={tmp_path}/unbroken")
    code, out, _ = ended(unbroken, 180)
    assert code == 0, out
    code, out, _ = ended(start(*arguments, f"runs={tmp_path}/stopped", STRIKE="on_train_batch_start:3:SIGTERM:0"), 180)
    assert code == 143, out
    assert Run.open(only_folder(tmp_path / "stopped")).status["state"] == "preempted"
    code, out, _ = ended(start(*arguments, f"runs={tmp_path}/stopped"), 180)
    assert code == 0, out
    one, two = (only_folder(tmp_path / name) for name in ("unbroken", "stopped"))
    for name, value in last(one).items():
        assert torch.equal(value, last(two)[name]), name
    assert (one / "metrics.jsonl").read_bytes() == (two / "metrics.jsonl").read_bytes()
    assert read_json(one / "result.json")["figures"] == read_json(two / "result.json")["figures"]


class TestSharding:
    def test_it_composes_and_is_planned_without_a_gpu(self, tmp_path, capfd):
        outcome = here(capfd, *CLASSIFIER, "callbacks=bare", "trainer=fsdp", "dry=true", f"runs={tmp_path}")
        assert outcome.code == 0, outcome.err
        assert "strategy fsdp, bf16-mixed" in outcome.out

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
    def test_without_a_gpu_a_run_is_one_clear_line(self, tmp_path, capfd):
        outcome = here(capfd, *CLASSIFIER, "callbacks=bare", "trainer=fsdp", f"runs={tmp_path}")
        assert outcome.code == 2
        assert "Traceback" not in outcome.err
        assert "gpu" in outcome.err.lower() or "cuda" in outcome.err.lower()

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
    def test_a_method_that_solves_has_nothing_to_shard(self, tmp_path, capfd):
        outcome = here(capfd, *KINDS["solved"], "callbacks=bare", "logger=none", "trainer=fsdp", f"runs={tmp_path}")
        assert outcome.code == 2
        assert "use trainer=ddp" in outcome.err

    @pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
    def test_it_trains(self, tmp_path):
        code, out, _ = ended(start(*KINDS["classifier"], "callbacks=bare", "trainer=fsdp", f"runs={tmp_path}"), 120)
        assert code == 0, out
