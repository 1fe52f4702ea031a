"""From a claim to runs: seeds, sweeps, stages, and the same folders as train.py's own."""

from __future__ import annotations

import pytest

from compendium.claims.claim import Claim
from compendium.claims.plan import plan
from compendium.compose import compose
from compendium.errors import UserError
from compendium.run import Run

BASE = "model=supervised/classifier data=wine net=mlp callbacks=bare"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def planned(**fields):
    written = {"arms": {"a": "", "b": "net.width=8"}, "base": BASE, "seeds": 2} | fields
    return plan(Claim.of(written, "room/key", "the claim"))


def test_the_runs_are_those_that_train_py_makes():
    found = planned()
    assert set(found.jobs) == {("a", 0), ("a", 1), ("b", 0), ("b", 1)}
    for (arm, seed), job in found.jobs.items():
        own = Run.plan(compose([*BASE.split(), *(["net.width=8"] if arm == "b" else []), f"seed={seed}"]))
        assert job.run.folder == own.folder
        assert job.run.config == own.config


def test_the_seed_goes_wherever_the_config_wants_it():
    job = planned(base=f"{BASE} data=moons data.seed=${{seed}} datamodule=labelled", arms={
        "a": "model=generative/stochastic_interpolant datamodule=unlabelled data.seed=${seed}",
        "b": "model=generative/stochastic_interpolant datamodule=unlabelled data.seed=${seed} model.gamma=sine",
    }).jobs["a", 1]  # fmt: skip
    assert (job.run.config["seed"], job.run.config["data"]["seed"], job.run.config["datamodule"]["seed"]) == (1, 1, 1)


def test_a_swept_arm_has_a_point_for_each_value_in_order():
    found = planned(arms={"a": "net.width=16,4,8", "b": "net.width=32"})
    assert list(found.points) == ["a[net.width=4]", "a[net.width=8]", "a[net.width=16]", "b"]
    assert found.jobs["a[net.width=8]", 1].run.config["net"]["width"] == 8
    assert [point.value for point in found.points.values()] == [4.0, 8.0, 16.0, 0.0]


def test_stages_are_made_once_and_named_by_content(tmp_path):
    stages = {"base": f"{BASE} trainer.max_epochs=1"}
    found = planned(stages=stages, arms={"a": "weights={base}", "b": "weights={base} net.width=256 optimizer.lr=0.5"})
    assert len(found.all) == 2 + 4
    assert found.all[0].run.folder == found.stages["base", 0].run.folder
    weights = found.jobs["a", 1].run.config["weights"]
    stage = found.stages["base", 1].run
    assert weights == f"{stage.folder.relative_to(tmp_path)}/checkpoints/last.ckpt"
    assert found.jobs["b", 1].run.config["weights"] == weights
    assert found.waits_for(found.jobs["a", 1]) == [stage.folder]
    assert f"weights={weights}" in found.jobs["a", 1].overrides

    other = planned(stages={"base": f"{BASE} trainer.max_epochs=2"}, arms={"a": "weights={base}", "b": "net.width=8"})
    assert other.jobs["a", 1].run.folder != found.jobs["a", 1].run.folder
    assert other.stages["base", 1].run.folder != stage.folder


def test_a_stage_in_the_base_is_one_of_every_arm():
    found = planned(stages={"first": BASE}, base=f"{BASE} weights={{first}}", arms={"a": "net.width=8", "b": ""})
    assert found.points["b"].stages == ("first",)
    assert found.waits_for(found.jobs["a", 1]) == [found.stages["first", 1].run.folder]


def test_a_stage_that_follows_a_figure_hands_on_its_best_weights():
    stages = {"base": f"{BASE} callbacks.checkpoint.monitor=validate/accuracy"}
    found = planned(stages=stages, arms={"a": "weights={base}", "b": "net.width=8"})
    assert found.jobs["a", 0].run.config["weights"].endswith("checkpoints/best.ckpt")


def test_stages_can_start_from_stages():
    stages = {"first": BASE, "second": f"{BASE} weights={{first}} optimizer.lr=0.1"}
    found = planned(stages=stages, arms={"a": "weights={second}", "b": "net.width=8"})
    second = found.stages["second", 0]
    assert found.waits_for(second) == [found.stages["first", 0].run.folder]
    assert found.waits_for(found.jobs["a", 0]) == [second.run.folder]
    assert found.waits_for(found.jobs["b", 0]) == []


def test_an_arm_and_a_stage_of_the_same_name_do_not_wait_for_themselves():
    found = planned(
        stages={"first": BASE, "a": f"{BASE} weights={{first}} optimizer.lr=0.1"},
        arms={"a": "weights={a} net.width=8", "b": ""},
    )
    stage = found.stages["a", 0]
    assert found.waits_for(found.jobs["a", 0]) == [stage.run.folder]
    assert found.waits_for(stage) == [found.stages["first", 0].run.folder]


def test_what_is_compared_has_a_name_of_its_own():
    assert planned().identity == planned().identity
    assert planned().identity != planned(seeds=3).identity
    assert planned().identity != planned(checks=["a.test/nll < b.test/nll"]).identity


def test_arms_that_are_the_same_run_are_refused():
    with pytest.raises(UserError, match="the same run"):
        planned(arms={"a": "", "b": "logger=none"})


def test_all_mistakes_come_at_once():
    with pytest.raises(UserError) as caught:
        planned(arms={"a": "net.widht=3", "b": "optimizer=sdg"}, stages={"base": "model=nothing"})
    text = str(caught.value)
    assert "arm a: net.widht" in text
    assert "arm b: optimizer=sdg" in text
    assert "stage base: model=nothing" in text
