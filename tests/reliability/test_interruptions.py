"""A run that is broken off at a chosen moment and started again ends with the bits of an unbroken one."""

from __future__ import annotations

import shutil

import pytest

from compendium.compose import compose
from compendium.interruption import interruption
from compendium.run import Run
from tests.command import here
from tests.modules.optimization.test_every_optimizer import OPTIMIZERS
from tests.reliability.kill_trials import compare
from tests.reliability.recorder import Striker, Struck

CALLBACKS = [
    "++callbacks.recorder._target_=tests.reliability.recorder.Recorder",
    "++callbacks.striker._target_=tests.reliability.recorder.Striker",
]
SMALL = ["trainer=cpu", "logger=none", "callbacks=bare", "callbacks.log.every=4", "callbacks.checkpoint.every_steps=3"]
CLASSIFIER = [
    "model=supervised/classifier",
    "net=mlp",
    "net.width=8",
    "data=wine",
    "datamodule.batch_size=16",
    "trainer.max_epochs=3",
    "+callbacks.evaluation.classification._target_=callbacks.evaluation.classification.Classification",
]
INTERPOLANT = [
    "model=generative/stochastic_interpolant",
    "data=moons",
    "data.train=128",
    "data.validation=32",
    "data.test=32",
    "net.vector.width=8",
    "net.vector.depth=1",
    "datamodule.batch_size=16",
    "trainer.max_epochs=3",
    "model.likelihood_steps=1",
    "+callbacks.evaluation.density._target_=callbacks.evaluation.density.Likelihood",
    "+callbacks.evaluation.density.stages=[validate,test]",
]
GACIL = [
    "model=continual/g_acil",
    "model.features=32",
    "datamodule.batch_size=128",
    "+callbacks.evaluation.classification._target_=callbacks.evaluation.classification.Classification",
]
ROLLOUTS = [
    "model=preference/policy_gradient",
    "data.train=42",
    "data.validation=8",
    "data.test=8",
    "net.width=8",
    "net.depth=1",
    "net.heads=1",
    "datamodule.batch_size=18",
    "datamodule.samples=2",
    "datamodule.passes=3",
    "trainer.max_epochs=3",
    "+callbacks.evaluation.answers._target_=callbacks.evaluation.answers.Answers",
]
PAIRS = [
    "model=preference/pairwise",
    "data=bandit",
    "datamodule=online_preferences",
    "data.train=42",
    "data.validation=8",
    "data.test=8",
    "datamodule.batch_size=18",
    "datamodule.passes=3",
    "datamodule.keep=null",
    "trainer.max_epochs=3",
    "+callbacks.evaluation.gold._target_=callbacks.evaluation.gold.Gold",
]
KINDS = {
    "plain": CLASSIFIER,
    "accumulated": [*CLASSIFIER, "trainer.accumulate_grad_batches=2"],
    "validated in mid-epoch": [
        *CLASSIFIER,
        "trainer.val_check_interval=3",
        "callbacks.checkpoint.monitor=validate/accuracy",
    ],
    "all of it": [
        *CLASSIFIER,
        "trainer.accumulate_grad_batches=2",
        "trainer.val_check_interval=2",
        "callbacks.checkpoint.monitor=validate/accuracy",
        "++callbacks.ema._target_=callbacks.ema.EMA",
        "++callbacks.ema.decay=0.9",
        "trainer.gradient_clip_val=0.5",
    ],
    "steps": [*CLASSIFIER, "trainer.max_epochs=-1", "trainer.max_steps=13", "trainer.check_val_every_n_epoch=2"],
    "validated across epochs": [
        *CLASSIFIER,
        "trainer.check_val_every_n_epoch=null",
        "trainer.val_check_interval=5",
        "callbacks.checkpoint.monitor=validate/nll",
        "callbacks.checkpoint.mode=min",
    ],
    "averaged, with the best": [
        *INTERPOLANT,
        "callbacks.checkpoint.monitor=validate/nll",
        "callbacks.checkpoint.mode=min",
    ],
    "solved": GACIL,
    "rollouts that are used several times": ROLLOUTS,
    "pairs that are written and kept": PAIRS,
}
OPTIMIZED = {
    name: [*CLASSIFIER[:-1], f"optimizer={name}", "trainer.accumulate_grad_batches=2", "trainer.max_epochs=2"]
    for name in OPTIMIZERS
}
"""Every optimizer of conf/optimizer, by its name."""
MOMENTS = {
    "raise": [  # goes on from the last checkpoint; an epoch has 7 steps, and every third is saved
        ("on_train_batch_end", 1),
        ("on_train_batch_end", 7),
        ("on_validation_end", 1),
        ("on_train_epoch_end", 0),
        ("on_test_batch_start", 0),
    ],
    "SIGTERM": [  # goes on from where it was stopped
        ("on_train_batch_start", 0),
        ("on_train_batch_start", 6),
        ("on_validation_batch_start", 0),
        ("on_train_batch_end", 6),
    ],
}


@pytest.fixture(autouse=True)
def trusted(monkeypatch):
    monkeypatch.setenv("COMPENDIUM_ALLOW", "tests")


@pytest.fixture(autouse=True)
def signals_end_with_the_test():
    """A signal that stopped one run must not stop the next."""
    yield
    interruption.signum = None
    Striker.at, Striker.calls = None, 0


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """Kind -> its run that nothing interrupted, made once."""
    made: dict[str, Run] = {}

    def get(kind: str, capfd) -> Run:
        if kind not in made:
            made[kind] = planned(kind, tmp_path_factory.mktemp("unbroken"))
            again(kind, made[kind], capfd)
        return made[kind]

    return get


def arguments(kind: str, runs) -> list[str]:
    return [*(KINDS | OPTIMIZED)[kind], *SMALL, *CALLBACKS, f"runs={runs}"]


def planned(kind: str, runs) -> Run:
    return Run.plan(compose(arguments(kind, runs)))


def again(kind: str, run: Run, capfd) -> None:
    """The same command, to its end."""
    interruption.signum = None
    Striker.at, Striker.calls = None, 0
    outcome = here(capfd, *arguments(kind, run.config["runs"]))
    assert outcome.code == 0, outcome.err


def broken(kind: str, runs, how: str, moment: tuple[str, int], capfd) -> Run:
    """A run that was broken off at a moment, and continued to its end."""
    run = planned(kind, runs)
    interruption.signum = None
    Striker.at, Striker.how, Striker.calls = moment, how, 0
    if how == "raise":
        try:
            here(capfd, *arguments(kind, runs))
        except Struck:
            assert run.status["state"] == "failed"
    else:
        code = here(capfd, *arguments(kind, runs)).code
        assert code in (0, 128 + 15)
        assert run.status["state"] == ("preempted" if code else "done")
    again(kind, run, capfd)
    return run


@pytest.mark.parametrize("how", ["raise", "SIGTERM"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_run_ends_like_an_unbroken_one(kind, how, unbroken, tmp_path, capfd):
    expected = unbroken(kind, capfd)
    for number, moment in enumerate(MOMENTS[how]):
        runs = tmp_path / str(number)
        run = broken(kind, runs, how, moment, capfd)
        assert not (found := compare(run, expected)), (moment, found)
        shutil.rmtree(runs)


@pytest.mark.parametrize("kind", OPTIMIZED)
def test_every_optimizer_goes_on_to_the_same_bits(kind, tmp_path, capfd):
    """In the second epoch, in the midst of a step's batches: from the last checkpoint, and with it the state."""
    expected = planned(kind, tmp_path / "unbroken")
    again(kind, expected, capfd)
    run = broken(kind, tmp_path / "broken", "raise", ("on_train_batch_end", 11), capfd)
    assert run.status["attempts"] == 2
    assert not (found := compare(run, expected)), found
