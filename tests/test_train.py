"""`python train.py` as a person types it: the table, the picture, Ctrl-C, and the same command again."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from lightning import Callback

from compendium.config import ROOT
from tests.command import apart
from tests.compendium.quick import CLASSIFIER, only_folder

TINY = (
    "trainer=cpu",
    "trainer.max_epochs=1",
    "trainer.limit_train_batches=3",
    "trainer.limit_val_batches=1",
    "trainer.limit_test_batches=1",
    "net.image.channels=[8]",
    "net.image.blocks=1",
    "model.steps=2",
    "model.likelihood_steps=1",
    "datamodule.eval_batch_size=64",
    "callbacks.evaluation.samples.n=128",
)


def test_the_plain_command_prints_a_table_and_leaves_a_picture(tmp_path):
    outcome = apart(*TINY, f"runs={tmp_path}")
    assert outcome.code == 0, outcome.err
    assert "generative/stochastic_interpolant on" in outcome.out
    figures = dict(re.findall(r"│ (test/\S+)\s+│\s+(\S+) │", outcome.out))
    folder = only_folder(tmp_path)
    result = json.loads((folder / "result.json").read_text())["figures"]
    assert {name: f"{value:.4g}" for name, value in result.items()} == figures
    assert (folder / "samples.png").read_bytes().startswith(b"\x89PNG")
    assert f"picture  {folder}/samples.png" in outcome.out
    assert outcome.err == "", "nothing but the run's own words"


def begun(folder: Path, seconds: float = 60) -> None:
    """Wait until the run logs."""
    end = time.monotonic() + seconds
    while not list(folder.rglob("metrics.jsonl")):
        assert time.monotonic() < end, "the run never began"
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_same_command_finishes(number, tmp_path):
    arguments = (*CLASSIFIER, f"runs={tmp_path}", "trainer.max_epochs=20", "logger=none")
    slow = {"COMPENDIUM_ALLOW": "tests"}
    more = ("++callbacks.slow._target_=tests.test_train.Slow",)
    run = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *arguments, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | slow | {"PYTHONPATH": str(ROOT), "SLOW": "0.1"},
    )
    begun(tmp_path)
    run.send_signal(number)
    out, err = run.communicate(timeout=60)
    assert run.returncode == 128 + number, err
    assert "everything saved; the same command continues" in err
    assert "Traceback" not in err
    folder = only_folder(tmp_path)
    assert json.loads((folder / "status.json").read_text())["state"] == "preempted"
    stopped = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["global_step"]
    assert 0 < stopped < 20 * 7
    again = apart(*arguments, *more, **slow, PYTHONPATH=str(ROOT))
    assert again.code == 0, again.err
    finished = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["global_step"]
    assert finished == 20 * 7
    assert json.loads((folder / "status.json").read_text())["attempts"] == 2


IN_PLAIN_PYTHON = """
import sys
sys.path.insert(0, {root!r})
from modules.supervised.classifier import SoftmaxClassifier
method = SoftmaxClassifier.load_from_checkpoint({path!r})
import torch
unwanted = ("hydra", "omegaconf", "wandb", "compendium.compose")
print(*(name for name in unwanted if name in sys.modules))
print(method.training, tuple(method.predict_log_proba(torch.zeros(2, 13)).shape))
"""


def test_a_checkpoint_opens_in_plain_python_without_hydra(tmp_path):
    outcome = apart(*CLASSIFIER, f"runs={tmp_path}", "logger=none")
    assert outcome.code == 0, outcome.err
    path = str(only_folder(tmp_path) / "checkpoints/last.ckpt")
    done = subprocess.run(
        [sys.executable, "-c", IN_PLAIN_PYTHON.format(root=str(ROOT), path=path)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["", "False (2, 3)"]


class Slow(Callback):
    """Waits SLOW seconds at every step, so that a signal finds the run at work."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        time.sleep(float(os.environ.get("SLOW", "0")))
