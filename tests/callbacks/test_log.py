"""The training log: means of the loss's terms over a number of steps, in full precision."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from callbacks.log import NotFinite, TrainLog
from compendium.errors import UserError
from compendium.run import read_log
from tests.command import here
from tests.compendium.quick import CLASSIFIER, only_folder


class Kept:
    """A logger that keeps what it is given."""

    def __init__(self) -> None:
        self.lines: list = []
        self.offset = 7

    def log_metrics(self, metrics, step) -> None:
        self.lines.append((step, metrics))

    def rewind(self, offset) -> None:
        self.lines.append(("rewind", offset))


def trainer(**more):
    return SimpleNamespace(**{"logger": Kept(), "optimizers": [], "callbacks": [], "global_step": 0, **more})


def steps(log: TrainLog, world, terms: list[dict]) -> None:
    for number, values in enumerate(terms):
        world.global_step = number + 1
        method = SimpleNamespace(terms={name: torch.tensor(value) for name, value in values.items()})
        log.on_train_batch_end(world, method, None, None, number)


def test_means_are_over_the_last_steps():
    log, world = TrainLog(every=2), trainer()
    steps(log, world, [{"loss": 1.0}, {"loss": 2.0}, {"loss": 10.0}, {"loss": 20.0}, {"loss": 7.0}])
    log.on_train_end(world, None)
    assert world.logger.lines == [(2, {"train/loss": 1.5}), (4, {"train/loss": 15.0}), (5, {"train/loss": 7.0})]


def test_a_term_that_is_absent_in_a_step_counts_as_zero_there():
    log, world = TrainLog(every=4), trainer()
    steps(log, world, [{"a": 1.0}, {"a": 1.0, "b": 8.0}, {"a": 1.0}, {"a": 5.0}])
    assert world.logger.lines == [(4, {"train/a": 2.0, "train/b": 2.0})]


def test_means_are_exact_sums():
    """A float32 running sum loses the small terms; the sum here does not."""
    values = [1e8, *[1.0] * 7]
    log, world = TrainLog(every=8), trainer()
    steps(log, world, [{"loss": value} for value in values])
    assert world.logger.lines == [(8, {"train/loss": (1e8 + 7) / 8})]


def test_the_rate_is_logged():
    log, world = TrainLog(every=1), trainer(optimizers=[SimpleNamespace(param_groups=[{"lr": 0.25}])])
    steps(log, world, [{"loss": 1.0}])
    assert world.logger.lines == [(1, {"train/loss": 1.0, "train/lr": 0.25})]


@pytest.mark.parametrize(
    ("bad", "shown"), [(float("nan"), "kl=nan"), (float("inf"), "kl=inf"), (float("-inf"), "kl=-inf")]
)
def test_a_loss_that_is_not_finite_names_step_and_term(bad, shown):
    log, world = TrainLog(every=4), trainer()
    with pytest.raises(NotFinite, match=f"step 3: {shown}"):
        steps(
            log,
            world,
            [{"rec": 1.0, "kl": 1.0}, {"rec": 1.0, "kl": 1.0}, {"rec": 1.0, "kl": bad}, {"rec": 1.0, "kl": 1.0}],
        )
    assert world.logger.lines == []


def test_what_is_pending_goes_through_a_checkpoint():
    log, world = TrainLog(every=4), trainer()
    steps(log, world, [{"loss": 0.1}, {"loss": 0.3}])
    again = TrainLog(every=4)
    again.load_state_dict(log.state_dict())
    assert again.first == 1
    for one in (log, again):
        other = trainer()
        other.global_step = 3
        for value in (0.7, 0.9):
            one.on_train_batch_end(other, SimpleNamespace(terms={"loss": torch.tensor(value)}), None, None, 0)
        (line,) = other.logger.lines
        assert line[1]["train/loss"] == pytest.approx(0.5, abs=1e-7)
    assert log.pending == again.pending == []


def test_every_line_of_a_run_stands_at_its_step(tmp_path, capfd):
    assert here(capfd, *CLASSIFIER, "logger=none", f"runs={tmp_path}", "callbacks.log.every=4").code == 0
    lines = read_log(only_folder(tmp_path) / "metrics.jsonl")
    assert [line["step"] for line in lines if "train/loss" in line] == [4, 8, 12, 14]


def test_how_often_is_logged_changes_no_weight(tmp_path, capfd):
    states = []
    for every in (1, 5, 100):
        here(capfd, *CLASSIFIER, "logger=none", f"runs={tmp_path}/{every}", f"callbacks.log.every={every}")
        path = only_folder(tmp_path / str(every)) / "checkpoints/last.ckpt"
        states.append(torch.load(path, weights_only=True)["state_dict"])
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name])
        assert torch.equal(value, states[2][name])


def test_less_than_a_step_between_lines_is_refused():
    with pytest.raises(UserError, match="at least 1"):
        TrainLog(every=0)
