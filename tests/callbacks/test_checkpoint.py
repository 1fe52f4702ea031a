"""`last.ckpt` and `best.ckpt`: when they are written, what they hold, and what survives a fault."""

from __future__ import annotations

import pytest
import torch

from callbacks.checkpoint import AtomicCheckpointIO, Checkpoint
from compendium.errors import UserError
from compendium.run import Run, read_log
from tests.command import here
from tests.compendium.quick import CLASSIFIER, only_folder


def trained(capfd, tmp_path, *more: str):
    """The folder of a run; its rate is high enough for validation figures to go up and down."""
    outcome = here(
        capfd,
        *CLASSIFIER,
        "logger=none",
        "trainer.max_epochs=6",
        "optimizer.lr=0.3",
        "schedule=constant",
        f"runs={tmp_path}",
        *more,
    )
    assert outcome.code == 0, outcome.err
    return only_folder(tmp_path)


@pytest.mark.parametrize(
    ("figure", "mode", "pick"), [("accuracy", "max", max), ("nll", "min", min), ("nll", "max", max)]
)
def test_best_follows_the_figure_and_the_test_uses_it(figure, mode, pick, capfd, tmp_path):
    folder = trained(
        capfd, tmp_path, f"callbacks.checkpoint.monitor=validate/{figure}", f"callbacks.checkpoint.mode={mode}"
    )
    validated = [line for line in read_log(folder / "metrics.jsonl") if f"validate/{figure}" in line]
    assert len(validated) == 6
    best = pick(validated, key=lambda line: line[f"validate/{figure}"])
    checkpoint = torch.load(folder / "checkpoints/best.ckpt", weights_only=True)
    assert checkpoint["global_step"] == best["step"], "the first of the best"
    state = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["callbacks"]
    assert next(s["best"] for s in state.values() if "best" in s) == pytest.approx(best[f"validate/{figure}"], rel=1e-6)
    outcome = here(capfd, *CLASSIFIER, "logger=none", "trainer.max_epochs=6", "optimizer.lr=0.3", "schedule=constant",
        f"runs={tmp_path}", f"callbacks.checkpoint.monitor=validate/{figure}", f"callbacks.checkpoint.mode={mode}",
        "run=validate",
    )  # fmt: skip
    assert f"{best[f'validate/{figure}']:.4g}" in outcome.out


def test_best_holds_the_averaged_weights_that_were_evaluated(capfd, tmp_path):
    """With an average that never moves, the best weights are the first ones, whatever was learnt."""
    arguments = (
        "callbacks.checkpoint.monitor=validate/nll",
        "callbacks.checkpoint.mode=min",
        "++callbacks.ema._target_=callbacks.ema.EMA",
    )
    folder = trained(capfd, tmp_path, *arguments, "++callbacks.ema.decay=0.9", "++callbacks.ema.warmup=100000")
    from compendium.build import build

    start = build(Run.open(folder)).method.state_dict()
    best = torch.load(folder / "checkpoints/best.ckpt", weights_only=True)["state_dict"]
    for name, value in start.items():
        assert torch.equal(best[name], value), name


def test_best_holds_no_training_state(capfd, tmp_path):
    folder = trained(capfd, tmp_path, "callbacks.checkpoint.monitor=validate/nll")
    best = torch.load(folder / "checkpoints/best.ckpt", weights_only=True)
    assert not {"optimizer_states", "loops", "callbacks"} & best.keys()
    assert {"state_dict", "hyper_parameters", "method"} <= best.keys()


def test_a_figure_that_nobody_logs_is_one_line_that_names_those_there_are(capfd, tmp_path):
    outcome = here(capfd, *CLASSIFIER, f"runs={tmp_path}", "callbacks.checkpoint.monitor=validate/acuracy")
    assert outcome.code == 2
    assert "no such figure" in outcome.err
    assert "validate/accuracy" in outcome.err


class FakeTrainer:
    """As much of a trainer as picking the best needs."""

    def __init__(self, root) -> None:
        self.default_root_dir = root
        self.callback_metrics: dict = {}
        self.callbacks: list = []
        self.lightning_module = None
        self.saved: list[float] = []

    def save_checkpoint(self, path, weights_only=False) -> None:
        self.saved.append(float(self.callback_metrics["f"]))


@pytest.mark.parametrize(
    ("mode", "figures", "kept"),
    [
        ("max", [1, 2, 2, 1, 3], [1, 2, 3]),
        ("min", [3, 4, 2, 2, 1], [3, 2, 1]),
        ("max", [float("nan"), 1, float("nan"), 2], [1, 2]),
        ("min", [float("inf"), float("nan"), 1], [float("inf"), 1]),
    ],
)
def test_best_moves_only_to_what_is_better(mode, figures, kept, tmp_path):
    trainer, checkpoint = FakeTrainer(tmp_path), Checkpoint(monitor="f", mode=mode)
    for figure in figures:
        trainer.callback_metrics = {"f": torch.tensor(float(figure))}
        checkpoint._save_best(trainer)
    assert trainer.saved == kept


@pytest.mark.parametrize(
    ("argument", "steps"),
    [("every_steps=10", [10, 20, 30, 40, 42]), ("every_seconds=0.0", list(range(43)))],
)
def test_saving_by_steps_or_time_happens_before_those_steps(capfd, tmp_path, monkeypatch, argument, steps):
    saved: list[int] = []
    save = Checkpoint._save_last

    def noted(self, trainer):
        saved.append(trainer.global_step)
        save(self, trainer)

    monkeypatch.setattr(Checkpoint, "_save_last", noted)
    trained(capfd, tmp_path, f"callbacks.checkpoint.{argument}")
    assert saved == steps


@pytest.mark.parametrize(("arguments", "says"), [({"mode": "best"}, "max or min"), ({"every_steps": 0}, "at least 1")])
def test_arguments_out_of_range(arguments, says):
    with pytest.raises(UserError, match=says):
        Checkpoint(**arguments)


def test_nan_stops_before_the_last_good_checkpoint_is_overwritten(capfd, tmp_path):
    """The log looks at the losses every 1000 steps only; a checkpoint looks before it is written."""
    arguments = (*CLASSIFIER, "logger=none", f"runs={tmp_path}", "optimizer=sgd", "schedule=constant")
    saving = ("callbacks.log.every=1000", "callbacks.checkpoint.every_steps=1")
    outcome = here(capfd, *arguments, *saving, "optimizer.lr=1e30")
    assert outcome.code == 2, outcome.out
    assert "the loss is not finite at step" in outcome.err
    assert "Traceback" not in outcome.err
    assert "last good checkpoint" in outcome.err
    last = torch.load(only_folder(tmp_path) / "checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] >= 1
    assert all(value.isfinite().all() for value in last["state_dict"].values())


def test_weights_that_are_not_finite_are_not_saved(capfd, tmp_path, monkeypatch):
    """A step can lead from a finite loss to weights that are not; the loss would say so one step too late."""
    from modules.supervised.classifier import SoftmaxClassifier

    def breaks_at_the_fifth(self):
        if self.trainer.global_step == 5:
            next(self.parameters()).data[0, 0] = float("inf")

    monkeypatch.setattr(SoftmaxClassifier, "on_train_batch_end", lambda self, *_: breaks_at_the_fifth(self))
    outcome = here(capfd, *CLASSIFIER, "logger=none", f"runs={tmp_path}", "callbacks.checkpoint.every_steps=1")
    assert outcome.code == 2
    assert "the weights are not finite before step 5" in outcome.err
    last = torch.load(only_folder(tmp_path) / "checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == 4


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path):
    io, path = AtomicCheckpointIO(), tmp_path / "a/last.ckpt"
    io.save_checkpoint({"x": torch.ones(3)}, path)
    old = path.read_bytes()
    with pytest.raises((TypeError, AttributeError)):
        io.save_checkpoint({"x": torch.ones(3), "f": (i for i in range(3))}, path)
    assert path.read_bytes() == old
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]
