"""From run folders to the result: tables, protocol, files and exit codes, on results that a test writes down."""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path

import pytest
from scipy import stats

import compare
from compendium.claims import record
from compendium.claims.claim import Claim
from compendium.claims.plan import plan
from compendium.run import write_json
from tests.command import here

BASE = ("model=supervised/classifier", "data=wine", "net=mlp", "callbacks=bare")
ARMS = ("arms.small=net.width=8", "arms.large=net.width=64")
PROTOCOL = {"split": "s", "selection": "last", "evaluations": "e", "metrics": "m"}
SMALL, LARGE = [0.50, 0.52, 0.49, 0.51, 0.53], [0.10, 0.12, 0.11, 0.09, 0.13]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@cache
def place(arm, seed):
    """Where a run lies, relative to the folder of the runs."""
    arms = {"small": "net.width=8", "large": "net.width=64"}
    planned = plan(Claim.of({"arms": arms, "base": " ".join(BASE), "seeds": 5}, "x", "x"))
    return planned.jobs[arm, seed].run.folder.relative_to(planned.runs)


def write(arm, seed, figures, protocol=None, code="c", curve=()):
    """The result of a run, as the engine leaves it."""
    folder = Path("runs") / place(arm, seed)
    folder.mkdir(parents=True, exist_ok=True)
    result = {"figures": figures, "seconds": 1.0, "protocol": PROTOCOL | (protocol or {}), "code": code}
    write_json(folder / "result.json", result)
    lines = [json.dumps({"step": step, "train/loss": value}) for step, value in curve]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def write_all(**more):
    for seed, (small, large) in enumerate(zip(SMALL, LARGE, strict=True)):
        write("small", seed, {"test/nll": small, "test/accuracy": 1 - small})
        write("large", seed, {"test/nll": large, "test/accuracy": 1 - large}, **more)


def compared(capfd, *arguments):
    return here(capfd, *BASE, *ARMS, *arguments, program=compare)


def result():
    (path,) = Path("runs/comparisons").glob("*/result.json")
    return json.loads(path.read_text())


CHECK = "checks=large.test/nll < small.test/nll"


def test_the_result_holds_every_seed_and_what_follows_from_them(capfd, tmp_path):
    write_all()
    outcome = compared(capfd, CHECK, "baseline=small")

    assert outcome.code == 0, outcome.err
    assert "holds" in outcome.out
    found = result()
    assert found["verdict"] == "holds"
    assert found["arms"]["large"]["runs"]["3"] == {"test/nll": 0.09, "test/accuracy": 0.91}
    (small, large) = found["table"]
    assert small["mean"] == pytest.approx(0.51)
    assert small["sd"] == pytest.approx(stats.tstd(SMALL))
    paired = stats.ttest_rel(LARGE, SMALL)
    interval = paired.confidence_interval(0.95)
    assert large["difference"]["estimate"] == pytest.approx(-0.40)
    assert large["difference"]["p"] == pytest.approx(paired.pvalue)
    assert (large["difference"]["low"], large["difference"]["high"]) == pytest.approx((interval.low, interval.high))
    assert found["made"]["command"].startswith("python compare.py")
    folder = next(tmp_path.glob("runs/comparisons/*"))
    assert {path.name for path in folder.iterdir()} == {"result.json", "comparison.png", "table.md"}
    assert "| large |" in (folder / "table.md").read_text()


@pytest.mark.parametrize(
    ("check", "code"),
    [
        ("large.test/nll < small.test/nll", 0),
        ("large.test/nll > small.test/nll", 1),
        ("large.test/nll < small.test/nll - 0.4", 3),
        ("large.test/knn < small.test/nll", 3),
    ],
)
def test_the_exit_code_is_the_verdict(capfd, check, code):
    write_all()
    assert compared(capfd, f"checks={check}").code == code


def test_without_checks_there_is_a_table_of_all_figures_that_arms_share(capfd):
    write_all()
    outcome = compared(capfd)
    assert outcome.code == 0
    assert result()["figures"] == ["test/nll", "test/accuracy"]
    assert result()["verdict"] == ""


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("split", "not evaluated on the same records"),
        ("selection", "select their weights differently"),
        ("evaluations", "other settings of their evaluations"),
        ("metrics", "different versions of the metrics"),
    ],
)
def test_other_protocols_are_refused_unless_forced(capfd, part, message):
    write_all(protocol={part: "another"})
    refused = compared(capfd, CHECK)
    assert refused.code == 2
    assert message in refused.err
    assert "force=true" in refused.err
    assert compared(capfd, CHECK, "force=true").code == 0


def test_runs_by_other_code_are_told_of(capfd):
    write_all(code="another")
    outcome = compared(capfd, CHECK)
    assert outcome.code == 0
    assert "2 versions of the code" in outcome.out


def test_figures_that_are_not_finite_leave_the_table_and_stay_in_the_record(capfd):
    write_all()
    write("large", 2, {"test/nll": math.nan, "test/accuracy": math.inf})
    assert compared(capfd, CHECK).code == 3
    found = result()
    assert found["arms"]["large"]["runs"]["2"] == {"test/nll": "nan", "test/accuracy": "inf"}
    assert [row["n"] for row in found["table"]] == [5, 4]
    json.dumps(found, allow_nan=False)


def test_a_stored_claim_is_recorded_where_it_belongs(capfd, tmp_path, monkeypatch):
    write_all()
    from compendium import config
    from compendium.claims import claim as claims

    (tmp_path / "conf" / "room").mkdir(parents=True)
    path = tmp_path / "conf" / "room" / "key.yaml"
    arms = "{small: net.width=8, large: net.width=64}"
    path.write_text(
        f"arms: {arms}\nbase: {' '.join(BASE)}\nstatement: It is so.\nchecks: [large.test/nll < small.test/nll]\n"
    )
    monkeypatch.setattr(
        claims, "choices", lambda group: {"room/key": path} if group == "claim" else config.choices(group)
    )
    monkeypatch.setattr(record, "RESULTS", tmp_path / "results")

    assert here(capfd, "claim=room/key", "seeds=[0,1,2,3,4]", program=compare).code == 0
    assert not (tmp_path / "results").exists()
    outcome = here(capfd, "claim=key", program=compare)
    assert outcome.code == 0, outcome.err
    recorded = json.loads((tmp_path / "results" / "room" / "key.json").read_text())
    assert recorded["statement"] == "It is so."
    assert recorded["claim"] == "room/key"


def test_curves_have_bands_at_the_steps_that_all_seeds_have(capfd):
    for seed in range(5):
        for arm in ("small", "large"):
            curve = [(step, 1.0 / (step + 1) + 0.01 * seed) for step in range(0, 400, 2)]
            write(arm, seed, {"test/nll": 0.1 * seed}, curve=curve[: 150 + seed])
    assert compared(capfd, "curve=train/loss").code == 0
    curve = result()["curve"]["arms"]["small"]
    assert len(curve["step"]) <= 61
    assert curve["step"][-1] == 298
    assert curve["mean"][-1] == pytest.approx(1 / 299 + 0.02)
    assert curve["low"][0] < curve["mean"][0] < curve["high"][0]


def test_every_run_of_a_sweep_is_validated_and_none_is_started(capfd, tmp_path):
    arms = ("arms.a=net.width=8,64", "arms.b=net.width=8 optimizer.lr=0.5")
    outcome = here(capfd, *BASE, *arms, "dry=true", program=compare)
    assert outcome.code == 0, outcome.err
    assert "15 runs, all valid" in outcome.out
    assert not list(tmp_path.iterdir())
