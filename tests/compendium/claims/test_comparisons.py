"""Comparisons that run: processes, stages, trials, crashes and kills."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

import compare
from tests.command import ROOT, apart, here
from tests.compendium.quick import CLASSIFIER

BASE = CLASSIFIER
ARMS = ("arms.narrow=net.width=4", "arms.wide=net.width=32")
CHECK = "checks=wide.test/nll < narrow.test/nll"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def compared(capfd, *arguments):
    return here(capfd, *BASE, *arguments, program=compare)


def results(folder):
    return sorted(folder.glob("runs/supervised/**/result.json"))


def result(folder):
    (path,) = folder.glob("runs/comparisons/*/result.json")
    return json.loads(path.read_text())


def lasting(found):
    """What a rerun must give again: everything but when and how it was made."""
    return {key: value for key, value in found.items() if key != "made"}


def test_a_comparison_from_the_first_trial_to_the_last_file(capfd, tmp_path):
    outcome = compared(capfd, *ARMS, CHECK, "seeds=2", "curve=train/loss")

    assert outcome.code == 3, outcome.err  # two seeds are no verdict
    assert "a trial of 2 configurations" in outcome.out
    assert "4 runs to do, 0 done before" in outcome.out
    assert "4/4" in outcome.out
    assert len(results(tmp_path)) == 4
    found = result(tmp_path)
    assert found["curve"]["arms"]["wide"]["step"]
    assert not list(tmp_path.glob("runs/comparisons/*/trial"))
    ran = json.loads(results(tmp_path)[0].read_text())
    assert set(ran["protocol"]) == {"split", "selection", "evaluations", "metrics"}
    assert ran["training"]["steps"] == 14

    again = compared(capfd, *ARMS, CHECK, "seeds=2", "curve=train/loss")
    assert "runs to do" not in again.out
    assert "trial" not in again.out
    assert lasting(result(tmp_path)) == lasting(found)

    more = compared(capfd, *ARMS, CHECK, "seeds=3")
    assert "2 runs to do, 4 done before" in more.out


def test_a_run_of_a_comparison_is_the_run_of_train_py(capfd, tmp_path):
    compared(capfd, *ARMS, "seeds=[1]")
    found = result(tmp_path)["arms"]["wide"]["runs"]["1"]
    alone = here(capfd, *BASE, "net.width=32", "seed=1", f"runs={tmp_path}/alone")
    assert alone.code == 0
    (own,) = (tmp_path / "alone").rglob("result.json")
    assert json.loads(own.read_text())["figures"] == found
    done = here(capfd, *BASE, "net.width=32", "seed=1")
    assert "done already" in done.out


def test_a_shared_stage_is_trained_once(capfd, tmp_path, monkeypatch):
    from compendium.claims import main

    written = {
        "arms": {"kept": "weights={base} trainer.max_epochs=0", "tuned": "weights={base} optimizer.lr=0.02"},
        "stages": {"base": f"{' '.join(BASE)} trainer.max_epochs=3"},
    }
    from compendium.claims.claim import Claim

    monkeypatch.setattr(main, "adhoc", lambda given, arms: Claim.of(written, "comparison", "the claim"))
    outcome = compared(capfd, "seeds=1")
    assert outcome.code == 0, outcome.err
    assert "3 runs to do" in outcome.out
    folders = {path.parent for path in results(tmp_path)}
    assert len(folders) == 3
    found = result(tmp_path)
    (stage,) = [folder for folder in folders if json.loads((folder / "config.json").read_text())["weights"] is None]
    own = json.loads((stage / "result.json").read_text())["figures"]
    assert found["arms"]["kept"]["runs"]["0"] == own
    assert found["arms"]["tuned"]["runs"]["0"] != own


def test_the_trial_finds_what_would_fail_before_anything_long_begins(capfd, tmp_path):
    outcome = compared(capfd, ARMS[0], "arms.wrong=optimizer.lr=-1.0", "seeds=5")
    assert outcome.code == 2
    assert "wrong fails on its first batch" in outcome.err
    assert "narrow fails" not in outcome.err
    assert not results(tmp_path)


def test_the_trial_finds_checks_of_figures_that_there_are_not(capfd, tmp_path):
    outcome = compared(capfd, *ARMS, "checks=wide.test/acuracy > narrow.test/accuracy", "seeds=5")
    assert outcome.code == 2
    assert "did you mean test/accuracy" in outcome.err
    assert not results(tmp_path)


def test_a_crash_is_the_record_of_its_run_and_not_the_end(capfd, tmp_path):
    arguments = (ARMS[0], "arms.wrong=optimizer.lr=-1.0", "seeds=2", "trial=false", "metric=test/nll")
    outcome = compared(capfd, *arguments, "checks=narrow.test/nll < wrong.test/nll")
    assert outcome.code == 3
    assert outcome.out.count("failed") >= 2
    assert len(results(tmp_path)) == 2
    found = result(tmp_path)
    assert found["verdict"] == "inconclusive"
    assert "optimizer" in found["missing"]["wrong, seed 0"]
    assert found["arms"]["wrong"]["runs"] == {"0": None, "1": None}


def test_resume_never_sets_the_old_runs_aside(capfd, tmp_path):
    compared(capfd, *ARMS, "seeds=1")
    first = lasting(result(tmp_path))
    outcome = compared(capfd, *ARMS, "seeds=1", "resume=never")
    assert "2 runs to do" in outcome.out
    assert len(list(tmp_path.glob("runs/supervised/**/*.old-1"))) == 2
    assert lasting(result(tmp_path)) == first


def test_a_comparison_is_found_from_any_shell(capfd, tmp_path):
    from compendium.jobs import main

    compared(capfd, *ARMS, "seeds=1", CHECK)
    (ledger,) = (tmp_path / "runs" / "sweeps").glob("*.json")
    assert main(["status", ledger.stem]) == 0
    out = capfd.readouterr().out
    assert out.count("done") >= 2
    assert main(["collect", ledger.stem]) == 3
    assert "wide.test/nll < narrow.test/nll" in capfd.readouterr().out


def test_your_own_table_with_two_models_in_one_command(tmp_path):
    rows = [f"{x % 7},{x % 3},{'yes' if (x % 7) > 3 else 'no'}" for x in range(80)]
    (tmp_path / "my.csv").write_text("\n".join(["a,b,y", *rows]))
    outcome = apart(
        "data=my.csv",
        "data.target=y",
        "arms.a=model=supervised/classifier trainer.max_epochs=2",
        "arms.b=model=supervised/classifier trainer.max_epochs=2 optimizer=sgd",
        "seeds=2",
        "metric=test/nll",
        program="compare",
    )
    assert outcome.code == 0, outcome.err
    assert "test/nll, beside b" in outcome.out


LONG = (*BASE, "trainer.max_epochs=250", "callbacks.checkpoint.every_seconds=0.3")


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_result(tmp_path):
    """SIGKILL, so that nothing can be saved on the way out; every third time the polite way."""
    command = [sys.executable, str(ROOT / "compare.py"), *LONG, "trainer.max_epochs=80", *ARMS, CHECK, "seeds=3"]
    command.append("curve=train/loss")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    subprocess.run(command, cwd=whole, check=False, capture_output=True, timeout=300)
    draw = random.Random(0)
    kills = 0
    for trial in range(6):
        process = subprocess.Popen(command, cwd=broken, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        time.sleep(draw.uniform(1.0, 6.0))
        if process.poll() is None:
            kills += 1
            process.send_signal(signal.SIGTERM if trial % 3 == 2 else signal.SIGKILL)
        process.communicate(timeout=120)
    deadline = time.monotonic() + 300
    done = subprocess.run(command, cwd=broken, check=False, capture_output=True, text=True, timeout=300)
    assert time.monotonic() < deadline
    assert kills >= 3
    assert lasting(result(broken)) == lasting(result(whole)), done.stdout + done.stderr


@pytest.mark.slow
def test_runs_end_with_the_command_that_started_them(tmp_path):
    command = [sys.executable, str(ROOT / "compare.py"), *LONG, "trainer.max_epochs=100000", *ARMS, "seeds=1"]
    process = subprocess.Popen([*command, "trial=false"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    running = lambda: [json.loads(path.read_text()) for path in tmp_path.glob("runs/supervised/**/status.json")]  # noqa: E731
    end = time.monotonic() + 90
    while time.monotonic() < end and sum(status["state"] == "running" for status in running()) < 2:
        time.sleep(0.2)
    process.kill()
    process.communicate(timeout=60)
    pids = [status["pid"] for status in running()]
    assert len(pids) == 2
    while time.monotonic() < end and any(alive(pid) for pid in pids):
        time.sleep(0.2)
    assert not any(alive(pid) for pid in pids)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
